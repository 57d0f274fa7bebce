//! A filter written as a function: its arguments are what it reads and what it is set to.

/// Makes a function the filter this component exports: its name and version are the package's, its summary
/// is the function's comment.
///
/// Before the `;` stands what it reads of a message, after it the parameters consumers give:
///
/// ```
/// quern_plugin::filter! {
///     /// Large orders from one region.
///     fn accept(
///         region: text,
///         amount: integer,
///         priority: text("x-priority");
///         /// the region
///         from: text = "eu",
///         /// the least amount
///         min: integer,
///     ) -> bool {
///         priority == Some("high") || region == Some(from) && amount.is_some_and(|it| it >= min)
///     }
/// }
///
/// // In tests it is a function like any other.
/// assert!(accept(Some("eu"), Some(120), None, "eu", 100));
/// assert!(!accept(Some("us"), Some(120), None, "eu", 100));
/// ```
///
/// | reads | as |
/// |---|---|
/// | `text`, `integer`: a property, by the argument's name or the one in brackets | `Option<&str>`, `Option<i64>` |
/// | `tag`, `keys`, `topic`, `message_id`, `order_key` | `Option<&str>` |
/// | `queue_id`, `queue_offset`, `size`, `born_at`, `stored_at`, `attempts` | `i64` |
///
/// | parameters | as |
/// |---|---|
/// | `text`, `integer`, `number`, `boolean`; required unless it has a default | `&str`, `i64`, `f64`, `bool` |
///
/// A filter that understands expressions, reads bodies or judges whole batches is a type of its own: see
/// [`crate::Filter`], [`crate::BodyFilter`] and [`crate::ColumnFilter`].
#[macro_export]
macro_rules! filter {
    (
        $(#[doc = $summary:literal])+
        fn $name:ident($($read:ident: $kind:ident $(($property:literal))?),* $(,)?
            $(; $($(#[doc = $help:literal])* $param:ident: $type:ident $(= $default:expr)?),+ $(,)?)?
        ) -> bool $body:block
    ) => {
        $(#[doc = $summary])+
        #[allow(clippy::too_many_arguments, reason = "they are what the filter reads")]
        fn $name(
            $($read: $crate::__filter_type!($kind),)*
            $($($param: $crate::__filter_type!(given $type),)+)?
        ) -> bool $body

        const _: () = {
            struct Function {
                $($($param: $crate::__filter_type!(kept $type),)+)?
            }

            impl $crate::Filter for Function {
                fn describe() -> $crate::Description {
                    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
                    let summary = concat!($($summary),+).trim_ascii();
                    $crate::Description::new(name, version, summary)
                        $($(.param(
                            $crate::Param::$type(stringify!($param), concat!("", $($help),*).trim_ascii())
                                $(.default($default))?
                        ))+)?
                }

                fn compile(
                    _: &str,
                    _params: &$crate::Params,
                ) -> ::core::result::Result<Self, $crate::Refusal> {
                    Ok(Self {
                        $($($param: _params.$type(stringify!($param)).to_owned(),)+)?
                    })
                }

                fn needs(&self) -> $crate::Needs {
                    let needs = $crate::Needs::new();
                    $(let needs = $crate::__filter_need!(needs, $kind, stringify!($read) $(, $property)?);)*
                    needs
                }

                fn matches(
                    &self,
                    _batch: &$crate::Batch,
                    _message: usize,
                ) -> ::core::result::Result<bool, ::std::string::String> {
                    let mut _place = $crate::function::Place::default();
                    $(let $read = $crate::__filter_read!($kind, _batch, _message, _place);)*
                    Ok($name($($read,)* $($($crate::__filter_given!($type, self.$param),)+)?))
                }
            }

            $crate::export_filter!(Function);
        };
    };
}

/// Which text and which number is read next.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Place {
    texts: usize,
    numbers: usize,
}

impl Place {
    #[inline]
    pub fn text<'a>(&mut self, batch: &'a crate::Batch, message: usize) -> Option<&'a str> {
        let text = batch.text(message, self.texts);
        self.texts += 1;
        text
    }

    /// `None` where there is none, or what is there is no integer.
    #[inline]
    pub fn number(&mut self, batch: &crate::Batch, message: usize) -> Option<i64> {
        let number = batch.number(message, self.numbers);
        self.numbers += 1;
        number.filter(|it| *it != crate::Batch::NOT_A_NUMBER)
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __filter_type {
    (integer) => { ::core::option::Option<i64> };
    (text) => { ::core::option::Option<&str> };
    (tag) => { ::core::option::Option<&str> };
    (keys) => { ::core::option::Option<&str> };
    (topic) => { ::core::option::Option<&str> };
    (message_id) => { ::core::option::Option<&str> };
    (order_key) => { ::core::option::Option<&str> };
    (queue_id) => { i64 };
    (queue_offset) => { i64 };
    (size) => { i64 };
    (born_at) => { i64 };
    (stored_at) => { i64 };
    (attempts) => { i64 };
    (given text) => { &str };
    (kept text) => { ::std::string::String };
    ($any:ident integer) => { i64 };
    ($any:ident number) => { f64 };
    ($any:ident boolean) => { bool };
    ($other:ident) => {
        ::core::compile_error!(concat!(
            "a filter reads text, integer, tag, keys, topic, message_id, order_key, queue_id, ",
            "queue_offset, size, born_at, stored_at or attempts, not ",
            stringify!($other)
        ))
    };
    ($any:ident $other:ident) => {
        ::core::compile_error!(concat!(
            "a parameter is a text, an integer, a number or a boolean, not ",
            stringify!($other)
        ))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __filter_need {
    ($needs:ident, $kind:ident, $name:expr, $property:literal) => {
        $crate::__filter_need!($needs, $kind, $property)
    };
    ($needs:ident, text, $name:expr) => {
        $needs.text($crate::Text::Property($name.to_owned()))
    };
    ($needs:ident, integer, $name:expr) => {
        $needs.figure($crate::Figure::Integer($name.to_owned()))
    };
    ($needs:ident, tag, $name:expr) => {
        $needs.text($crate::Text::Tag)
    };
    ($needs:ident, keys, $name:expr) => {
        $needs.text($crate::Text::Keys)
    };
    ($needs:ident, topic, $name:expr) => {
        $needs.text($crate::Text::Topic)
    };
    ($needs:ident, message_id, $name:expr) => {
        $needs.text($crate::Text::MessageId)
    };
    ($needs:ident, order_key, $name:expr) => {
        $needs.text($crate::Text::OrderKey)
    };
    ($needs:ident, queue_id, $name:expr) => {
        $needs.figure($crate::Figure::QueueId)
    };
    ($needs:ident, queue_offset, $name:expr) => {
        $needs.figure($crate::Figure::QueueOffset)
    };
    ($needs:ident, size, $name:expr) => {
        $needs.figure($crate::Figure::Size)
    };
    ($needs:ident, born_at, $name:expr) => {
        $needs.figure($crate::Figure::BornTimestamp)
    };
    ($needs:ident, stored_at, $name:expr) => {
        $needs.figure($crate::Figure::StoreTimestamp)
    };
    ($needs:ident, attempts, $name:expr) => {
        $needs.figure($crate::Figure::ReconsumeTimes)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __filter_read {
    (text, $batch:expr, $message:expr, $place:ident) => {
        $place.text($batch, $message)
    };
    (tag, $batch:expr, $message:expr, $place:ident) => {
        $place.text($batch, $message)
    };
    (keys, $batch:expr, $message:expr, $place:ident) => {
        $place.text($batch, $message)
    };
    (topic, $batch:expr, $message:expr, $place:ident) => {
        $place.text($batch, $message)
    };
    (message_id, $batch:expr, $message:expr, $place:ident) => {
        $place.text($batch, $message)
    };
    (order_key, $batch:expr, $message:expr, $place:ident) => {
        $place.text($batch, $message)
    };
    (integer, $batch:expr, $message:expr, $place:ident) => {
        $place.number($batch, $message)
    };
    ($figure:ident, $batch:expr, $message:expr, $place:ident) => {
        $place.number($batch, $message).unwrap_or(0)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __filter_given {
    (text, $kept:expr) => {
        &$kept
    };
    ($type:ident, $kept:expr) => {
        $kept
    };
}
