//! Filters: which messages does a subscription want?

use crate::about::{Description, Params};
use crate::batch::{Batch, Verdicts};
use crate::needs::Needs;
use crate::refusal::Refusal;

/// A filter, judging row by row: one value per subscription.
pub trait Filter: Sized + 'static {
    fn describe() -> Description;

    /// Understands an expression, or says where it does not.
    fn compile(expression: &str, params: &Params) -> Result<Self, Refusal>;

    /// What [`Filter::matches`] reads. The broker extracts only this.
    fn needs(&self) -> Needs;

    /// True delivers. An error means "this batch cannot be judged"; the broker then asks again.
    fn matches(&self, batch: &Batch, message: usize) -> Result<bool, String>;
}

/// A filter that judges a whole batch in one go: for speed. Every [`Filter`] is one, too.
///
/// ```
/// use quern_plugin::{
///     Batch, BatchBuilder, ColumnFilter, Description, Figure, Needs, Param, Params, Refusal,
///     Verdicts,
/// };
///
/// /// Amounts of at least so much.
/// struct AtLeast(i64);
///
/// impl ColumnFilter for AtLeast {
///     fn describe() -> Description {
///         let least = Param::integer("least", "the smallest amount delivered");
///         Description::new("at-least", "1.0.0", "large amounts").param(least.default(100))
///     }
///     fn compile(_: &str, params: &Params) -> Result<Self, Refusal> {
///         Ok(Self(params.integer("least")))
///     }
///     fn needs(&self) -> Needs {
///         Needs::new().figure(Figure::Integer("amount".to_owned()))
///     }
///     fn judge(&self, batch: &Batch) -> Result<Verdicts, String> {
///         let mut verdicts = Verdicts::none(batch);
///         let amounts = batch.numbers(0).ok_or("amounts were needed")?;
///         for (message, amount) in amounts.from(0).enumerate() {
///             // The marks for "absent" and "no number" are smaller than any amount.
///             if amount >= self.0 {
///                 verdicts.deliver(message);
///             }
///         }
///         Ok(verdicts)
///     }
/// }
///
/// # #[cfg(target_family = "wasm")]
/// quern_plugin::export_filter!(AtLeast);
///
/// let params = Params::check(&AtLeast::describe(), Vec::new()).unwrap();
/// let filter = AtLeast::compile("", &params).unwrap();
/// let batch = BatchBuilder::default().message(&[], &[99]).message(&[], &[100]).build();
/// let verdicts = filter.judge(&batch).unwrap();
/// assert_eq!((verdicts.is_delivered(0), verdicts.is_delivered(1)), (false, true));
/// ```
pub trait ColumnFilter: Sized + 'static {
    fn describe() -> Description;

    /// Understands an expression, or says where it does not.
    fn compile(expression: &str, params: &Params) -> Result<Self, Refusal>;

    /// What [`ColumnFilter::judge`] reads. The broker extracts only this.
    fn needs(&self) -> Needs;

    /// A verdict for each message. The same batch gets the same answer, and a message the same
    /// verdict in whatever batch it comes.
    fn judge(&self, batch: &Batch) -> Result<Verdicts, String>;
}

impl<F: Filter> ColumnFilter for F {
    fn describe() -> Description {
        F::describe()
    }

    fn compile(expression: &str, params: &Params) -> Result<Self, Refusal> {
        F::compile(expression, params)
    }

    fn needs(&self) -> Needs {
        F::needs(self)
    }

    fn judge(&self, batch: &Batch) -> Result<Verdicts, String> {
        let mut verdicts = Verdicts::none(batch);
        for message in 0..batch.len() {
            if self.matches(batch, message)? {
                verdicts.deliver(message);
            }
        }
        Ok(verdicts)
    }
}

/// A filter that also reads bodies, as the producer sent them. It costs more than one that reads
/// properties only.
///
/// ```
/// use quern_plugin::{Batch, BodyFilter, Description, Needs, Params, Refusal};
///
/// /// Bodies that contain a text.
/// struct Containing(String);
///
/// impl BodyFilter for Containing {
///     fn describe() -> Description {
///         Description::new("containing", "1.0.0", "bodies by a text").language("CONTAINING")
///     }
///     fn compile(expression: &str, _: &Params) -> Result<Self, Refusal> {
///         if expression.is_empty() {
///             return Err(Refusal::syntax(0, 0, "the text is missing"));
///         }
///         Ok(Self(expression.to_owned()))
///     }
///     fn needs(&self) -> Needs {
///         Needs::new()
///     }
///     fn matches(&self, _: &Batch, _: usize, body: &[u8]) -> Result<bool, String> {
///         Ok(String::from_utf8_lossy(body).contains(&self.0))
///     }
/// }
///
/// # #[cfg(target_family = "wasm")]
/// quern_plugin::export_body_filter!(Containing);
///
/// let filter = Containing::compile("paid", &Params::default()).unwrap();
/// assert_eq!(filter.matches(&Batch::default(), 0, b"{\"state\":\"paid\"}"), Ok(true));
/// ```
pub trait BodyFilter: Sized + 'static {
    fn describe() -> Description;

    /// Understands an expression, or says where it does not.
    fn compile(expression: &str, params: &Params) -> Result<Self, Refusal>;

    /// What [`BodyFilter::matches`] reads besides the body.
    fn needs(&self) -> Needs;

    /// True delivers. An error means "this batch cannot be judged"; the broker then asks again.
    fn matches(&self, batch: &Batch, message: usize, body: &[u8]) -> Result<bool, String>;
}
