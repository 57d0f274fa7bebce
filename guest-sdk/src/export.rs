//! From the contract's functions to an author's types, a module for each kind.

use crate::about::{Description, Param, ParamKind};
use crate::bindings::about::exports::quern::plugin::about;

/// How the contract, which has no word for them, is told of parameters of any name.
const ANY: &str = "*";

fn described(mut it: Description) -> about::Description {
    crate::panics::report_panics();
    if let Some(help) = it.any {
        it.params.push(Param::text(ANY, help).default(""));
    }
    let params = it.params.into_iter().map(|param| about::Param {
        name: param.name.to_owned(),
        kind: match param.kind {
            ParamKind::Text => about::ParamType::Text,
            ParamKind::Integer => about::ParamType::Integer,
            ParamKind::Number => about::ParamType::Number,
            ParamKind::Boolean => about::ParamType::Boolean,
            ParamKind::Choice => about::ParamType::Choice,
        },
        default: param.default,
        choices: param.choices.iter().map(|it| (*it).to_owned()).collect(),
        help: param.help.to_owned(),
    });
    about::Description {
        name: it.name.to_owned(),
        version: it.version.to_owned(),
        summary: it.summary.to_owned(),
        language: it.language.map(str::to_owned),
        params: params.collect(),
    }
}

/// Makes what a plugin keeps; all else it allocates is gone when a call is over; see `arena.rs`.
fn keeping<T>(make: impl FnOnce() -> T) -> T {
    #[cfg(target_family = "wasm")]
    let _it = crate::arena::Keeping::begin();
    make()
}

pub mod filter {
    use std::marker::PhantomData;

    use super::{about, described, keeping};
    use crate::about::Params;
    use crate::batch::Batch;
    use crate::bindings::filter::exports::quern::plugin::filter;
    use crate::bindings::types;
    use crate::filter::ColumnFilter;

    /// Stands for the author's filter towards the generated code; see [`crate::export_filter`].
    pub struct Exported<F>(PhantomData<F>);

    /// One compiled subscription in this instance.
    pub struct Subscribed<F>(F);

    impl<F: ColumnFilter> about::Guest for Exported<F> {
        fn describe() -> about::Description {
            described(F::describe())
        }
    }

    impl<F: ColumnFilter> filter::Guest for Exported<F> {
        type Subscription = Subscribed<F>;
    }

    impl<F: ColumnFilter> filter::GuestSubscription for Subscribed<F> {
        fn compile(
            expression: String,
            params: types::Params,
        ) -> Result<filter::Subscription, types::Refusal> {
            crate::panics::report_panics();
            let params = Params::check(&F::describe(), params)?;
            keeping(|| {
                let compiled = F::compile(&expression, &params)?;
                Ok(filter::Subscription::new(Self(compiled)))
            })
        }

        fn needs(&self) -> types::Needs {
            self.0.needs().into()
        }

        fn matches(&self, batch: types::Batch) -> Result<types::Verdicts, types::Failure> {
            let verdicts = self.0.judge(&Batch::from(batch))?;
            Ok(verdicts.into_words())
        }
    }
}

pub mod body_filter {
    use std::marker::PhantomData;

    use super::{about, described, keeping};
    use crate::about::Params;
    use crate::batch::{Batch, Verdicts};
    use crate::bindings::body_filter::exports::quern::plugin::body_filter;
    use crate::bindings::types;
    use crate::filter::BodyFilter;

    /// Stands for the author's filter towards the generated code; see
    /// [`crate::export_body_filter`].
    pub struct Exported<F>(PhantomData<F>);

    /// One compiled subscription in this instance.
    pub struct Subscribed<F>(F);

    impl<F: BodyFilter> about::Guest for Exported<F> {
        fn describe() -> about::Description {
            described(F::describe())
        }
    }

    impl<F: BodyFilter> body_filter::Guest for Exported<F> {
        type Subscription = Subscribed<F>;
    }

    impl<F: BodyFilter> body_filter::GuestSubscription for Subscribed<F> {
        fn compile(
            expression: String,
            params: types::Params,
        ) -> Result<body_filter::Subscription, types::Refusal> {
            crate::panics::report_panics();
            let params = Params::check(&F::describe(), params)?;
            keeping(|| {
                let compiled = F::compile(&expression, &params)?;
                Ok(body_filter::Subscription::new(Self(compiled)))
            })
        }

        fn needs(&self) -> types::Needs {
            self.0.needs().into()
        }

        fn matches(
            &self,
            batch: types::Batch,
            ends: Vec<u32>,
            bodies: Vec<u8>,
        ) -> Result<types::Verdicts, types::Failure> {
            let batch = Batch::from(batch);
            let mut verdicts = Verdicts::none(&batch);
            let mut start = 0;
            for (message, end) in ends.into_iter().enumerate().take(batch.len()) {
                let end = end as usize;
                let body = bodies.get(start..end).unwrap_or(&[]);
                start = end;
                if self.0.matches(&batch, message, body)? {
                    verdicts.deliver(message);
                }
            }
            Ok(verdicts.into_words())
        }
    }
}

pub mod queue_selector {
    use std::cell::RefCell;
    use std::marker::PhantomData;

    use super::{about, described, keeping};
    use crate::about::Params;
    use crate::batch::Batch;
    use crate::bindings::queue_selector::exports::quern::plugin::queue_selector;
    use crate::bindings::types;
    use crate::selector::{Queue, QueueSelector};

    /// Stands for the author's selector towards the generated code; see
    /// [`crate::export_queue_selector`].
    pub struct Exported<S>(PhantomData<S>);

    /// One opened selector of this instance, and the queues it chooses from.
    pub struct Opened<S>(RefCell<(S, Vec<Queue>)>);

    impl<S: QueueSelector> about::Guest for Exported<S> {
        fn describe() -> about::Description {
            described(S::describe())
        }
    }

    impl<S: QueueSelector> queue_selector::Guest for Exported<S> {
        type Selector = Opened<S>;
    }

    impl<S: QueueSelector> queue_selector::GuestSelector for Opened<S> {
        fn open(params: types::Params) -> Result<queue_selector::Selector, types::Refusal> {
            crate::panics::report_panics();
            let params = Params::check(&S::describe(), params)?;
            keeping(|| {
                let opened = (S::open(&params)?, Vec::new());
                Ok(queue_selector::Selector::new(Self(RefCell::new(opened))))
            })
        }

        fn needs(&self) -> types::Needs {
            self.0.borrow().0.needs().into()
        }

        fn route(&self, queues: Vec<queue_selector::Queue>) {
            let (selector, known) = &mut *self.0.borrow_mut();
            // Copies: what was handed over is memory of this call.
            let copy = |queue: &queue_selector::Queue| Queue {
                broker: queue.broker.clone(),
                id: queue.id,
                zone: queue.zone.clone(),
                latency_us: queue.latency_us,
                backlog: queue.backlog,
            };
            keeping(|| {
                *known = queues.iter().map(copy).collect();
                selector.route(known);
            });
        }

        fn select(&self, batch: types::Batch) -> Result<Vec<u32>, types::Failure> {
            let (selector, queues) = &*self.0.borrow();
            if queues.is_empty() {
                return Err("there is no queue to choose from".to_owned());
            }
            let batch = Batch::from(batch);
            let mut chosen = Vec::with_capacity(batch.len());
            for message in 0..batch.len() {
                chosen.push(selector.select(queues, &batch, message)? as u32);
            }
            Ok(chosen)
        }
    }
}

pub mod allocation_strategy {
    use std::marker::PhantomData;

    use super::{about, described};
    use crate::about::Params;
    use crate::bindings::allocation_strategy::exports::quern::plugin::allocation_strategy;
    use crate::bindings::types;
    use crate::strategy::{AllocationStrategy, Member, OwnedQueue, Request};

    const NOBODY: u32 = u32::MAX;

    /// Stands for the author's strategy towards the generated code; see
    /// [`crate::export_allocation_strategy`].
    pub struct Exported<S>(PhantomData<S>);

    impl<S: AllocationStrategy> about::Guest for Exported<S> {
        fn describe() -> about::Description {
            described(S::describe())
        }
    }

    impl<S: AllocationStrategy> allocation_strategy::Guest for Exported<S> {
        fn check(params: types::Params) -> Result<(), types::Refusal> {
            crate::panics::report_panics();
            let params = Params::check(&S::describe(), params)?;
            Ok(S::check(&params)?)
        }

        fn allocate(
            request: allocation_strategy::Request,
            params: types::Params,
        ) -> Result<Vec<u32>, types::Failure> {
            crate::panics::report_panics();
            let params = Params::check(&S::describe(), params);
            let params = params.map_err(|refusal| refusal.reason().to_owned())?;
            let owners = S::allocate(&Request::from(request), &params)?;
            let index = |owner: Option<usize>| owner.map_or(NOBODY, |it| it as u32);
            Ok(owners.into_iter().map(index).collect())
        }
    }

    impl From<allocation_strategy::Request> for Request {
        fn from(it: allocation_strategy::Request) -> Self {
            let members = it.members.into_iter().map(|member| Member {
                id: member.id,
                zone: member.zone,
                weight: member.weight,
            });
            let queues = it.queues.into_iter().map(|queue| OwnedQueue {
                broker: queue.broker,
                id: queue.id,
                zone: queue.zone,
                owner: (queue.owner != NOBODY).then_some(queue.owner as usize),
                lag: u64::try_from(queue.lag).ok(),
            });
            Self {
                group: it.group,
                topic: it.topic,
                members: members.collect(),
                queues: queues.collect(),
            }
        }
    }
}

/// Makes a [`crate::Filter`] or [`crate::ColumnFilter`] the one this component exports.
#[macro_export]
macro_rules! export_filter {
    ($filter:ty) => {
        type Exported = $crate::export::filter::Exported<$filter>;
        $crate::bindings::about::export_about!(Exported with_types_in $crate::bindings::about);
        $crate::bindings::filter::export_filter!(Exported with_types_in $crate::bindings::filter);
    };
}

/// Makes a [`crate::BodyFilter`] the one this component exports.
#[macro_export]
macro_rules! export_body_filter {
    ($filter:ty) => {
        type Exported = $crate::export::body_filter::Exported<$filter>;
        $crate::bindings::about::export_about!(Exported with_types_in $crate::bindings::about);
        $crate::bindings::body_filter::export_body_filter!(Exported with_types_in $crate::bindings::body_filter);
    };
}

/// Makes a [`crate::QueueSelector`] the one this component exports.
#[macro_export]
macro_rules! export_queue_selector {
    ($selector:ty) => {
        type Exported = $crate::export::queue_selector::Exported<$selector>;
        $crate::bindings::about::export_about!(Exported with_types_in $crate::bindings::about);
        $crate::bindings::queue_selector::export_queue_selector!(Exported with_types_in $crate::bindings::queue_selector);
    };
}

/// Makes a [`crate::AllocationStrategy`] the one this component exports.
#[macro_export]
macro_rules! export_allocation_strategy {
    ($strategy:ty) => {
        type Exported = $crate::export::allocation_strategy::Exported<$strategy>;
        $crate::bindings::about::export_about!(Exported with_types_in $crate::bindings::about);
        $crate::bindings::allocation_strategy::export_allocation_strategy!(Exported with_types_in $crate::bindings::allocation_strategy);
    };
}
