//! From the contract's functions to an author's [`Filter`].

use std::marker::PhantomData;

use crate::batch::Batch;
use crate::bindings::exports::quern::plugin::{about, filter};
use crate::bindings::quern::plugin::types;
use crate::filter::{Filter, Params};

/// Stands for the author's filter towards the generated code; see [`crate::export_filter`].
pub struct Exported<F>(PhantomData<F>);

/// One compiled subscription in this instance.
pub struct Subscribed<F>(F);

impl<F: Filter> about::Guest for Exported<F> {
    fn describe() -> about::Description {
        F::describe().into()
    }
}

impl<F: Filter> filter::Guest for Exported<F> {
    type Subscription = Subscribed<F>;
}

impl<F: Filter> filter::GuestSubscription for Subscribed<F> {
    fn compile(
        expression: String,
        params: types::Params,
    ) -> Result<filter::Subscription, types::Refusal> {
        match F::compile(&expression, &Params(params)) {
            Ok(compiled) => Ok(filter::Subscription::new(Self(compiled))),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn needs(&self) -> types::Needs {
        self.0.needs().into()
    }

    fn matches(&self, batch: types::Batch) -> Result<types::Verdicts, types::Failure> {
        let batch = Batch::from(batch);
        let mut verdicts = vec![0; batch.len().div_ceil(32)];
        for message in 0..batch.len() {
            if self.0.matches(&batch, message)? {
                verdicts[message / 32] |= 1 << (message % 32);
            }
        }
        Ok(verdicts)
    }
}

/// Makes a [`Filter`] the one this component exports.
#[macro_export]
macro_rules! export_filter {
    ($filter:ty) => {
        type ExportedFilter = $crate::Exported<$filter>;
        $crate::bindings::export_filter_plugin!(ExportedFilter with_types_in $crate::bindings);
    };
}
