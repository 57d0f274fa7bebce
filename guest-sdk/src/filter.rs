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

/// A filter that also reads bodies, as the producer sent them.
pub trait BodyFilter: Sized + 'static {
    fn describe() -> Description;

    /// Understands an expression, or says where it does not.
    fn compile(expression: &str, params: &Params) -> Result<Self, Refusal>;

    /// What [`BodyFilter::matches`] reads besides the body.
    fn needs(&self) -> Needs;

    /// True delivers. An error means "this batch cannot be judged"; the broker then asks again.
    fn matches(&self, batch: &Batch, message: usize, body: &[u8]) -> Result<bool, String>;
}
