//! The filters that decide about a group's messages, one after the other: what its consumers ask for, then what is
//! bound to it. Each is asked about what those before it let through, in batches; a message is delivered if all
//! let it through. Each has its own trial, its own figures and its own failures; where it cannot say, and has a filter
//! that stands in for it, that one decides.

use std::sync::Arc;

use bytes::Bytes;
use quern_plugins::{Batch, Fault, Judged, Subscription, Verdict, Worker};
use quern_protocol::{
    Code, FilterFailure, GroupName, QueueId, QueueOffset, RecordView, TopicId, WireError,
};

use crate::breakers::Asker;
use crate::costs::Spent;
use crate::health::{self, Case};
use crate::replay::Before;
use crate::topics::Topic;
use crate::trials::{At, Deciders, OnTrial, Side, Tried};
use crate::trouble::Trouble;
use crate::verdicts::{Asked, Known, Verdicts};
use crate::{Broker, filters};

/// Who decides, for one look at a queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) links: Vec<Link>,
    /// A filter of this chain cannot be asked, and the group wants messages all the same: why.
    pub(crate) unjudged: Option<u16>,
    /// Where the look goes back over what was decided before.
    pub(crate) before: Option<Before>,
}

/// One filter of a chain.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) deciders: Deciders,
    /// Decides where the usual one cannot.
    otherwise: Option<Subscription>,
    /// What the usual one is asked, where its verdicts are remembered.
    asked: Option<Asked>,
}

impl Link {
    pub(crate) fn new(
        broker: &Broker,
        deciders: Deciders,
        otherwise: Option<Subscription>,
    ) -> Self {
        Self {
            asked: broker.verdicts.asked(&deciders.usual),
            deciders,
            otherwise,
        }
    }

    /// What the usual one has said of a queue's messages. A trial is told of every message.
    pub(crate) fn known<'a>(
        &self,
        verdicts: &'a Verdicts,
        (topic, queue): (TopicId, QueueId),
    ) -> Option<Known<'a>> {
        Some(verdicts.of(self.asked?, topic, queue))
    }
}

impl Chain {
    /// Whether anybody has to be asked about a message with this tag.
    pub(crate) fn wants(&self, queue: QueueId, offset: QueueOffset, tag_code: i32) -> bool {
        let mut deciders = self.links.iter().map(|it| &it.deciders);
        deciders.all(|it| it.wants(it.side(queue, offset), tag_code))
    }
}

/// A message that somebody has to be asked about.
pub(crate) type Candidate = (QueueOffset, Bytes);

/// What all of a chain say of a message.
#[derive(Debug, Clone)]
pub(crate) enum Decision {
    Reject,
    Deliver,
    Failed {
        fault: Fault,
        /// The message itself is what the guest failed on.
        is_at_fault: bool,
    },
}

/// What one version said of messages, where another is on trial; by their place among those asked about.
struct Call {
    link: usize,
    side: Side,
    messages: Vec<usize>,
    verdicts: Vec<Verdict>,
}

/// A chain at work on messages of one queue.
pub(crate) struct Judging<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) chain: Arc<Chain>,
    pub(crate) topic: Arc<Topic>,
    pub(crate) queue: QueueId,
    pub(crate) found: Trouble,
    whose: Whose<'a>,
    calls: Vec<Call>,
    /// Messages another decided about, by their place among those asked about, and in whose place.
    instead: Vec<(usize, Arc<str>)>,
}

/// For whom a chain decides, and what they want of messages it fails on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) group: Option<&'a GroupName>,
    pub(crate) policy: FilterFailure,
}

impl<'a> Judging<'a> {
    pub(crate) fn new(
        broker: &'a Broker,
        chain: &Arc<Chain>,
        (topic, queue): (&Arc<Topic>, QueueId),
        whose: Whose<'a>,
    ) -> Self {
        Self {
            broker,
            chain: Arc::clone(chain),
            topic: Arc::clone(topic),
            queue,
            found: Trouble::default(),
            whose,
            calls: Vec::new(),
            instead: Vec::new(),
        }
    }

    /// What becomes of the first messages, as many as can be said at once; none = nobody can say.
    pub(crate) fn decide(
        &mut self,
        messages: &[Candidate],
        worker: &mut Worker,
    ) -> Result<Vec<Decision>, WireError> {
        let all: Vec<usize> = (0..messages.len()).collect();
        let mut decisions = self.ask(0, messages, &all, worker)?;
        self.cut(&mut decisions);
        for link in 1..self.chain.links.len() {
            let open = |it: &usize| !matches!(decisions[*it], Decision::Reject);
            let open: Vec<usize> = (0..decisions.len()).filter(open).collect();
            let mut rest = &open[..];
            while let Some(first) = rest.first().filter(|it| **it < decisions.len()) {
                let said = self.ask(link, messages, rest, worker)?;
                if said.is_empty() {
                    decisions.truncate(*first);
                    break;
                }
                let (now, after) = rest.split_at(said.len());
                for (index, said) in now.iter().zip(said) {
                    let before = &mut decisions[*index];
                    // Who failed first says why; but nobody waits for what another filter rejects.
                    if !matches!(
                        (&before, &said),
                        (
                            Decision::Failed { .. },
                            Decision::Failed { .. } | Decision::Deliver
                        )
                    ) {
                        *before = said;
                    }
                }
                self.cut(&mut decisions);
                rest = after;
            }
        }
        self.leave_out(messages, &mut decisions, worker)?;
        Ok(decisions)
    }

    /// Of what is judged again, what the version before let through was delivered before. One that it fails on may
    /// not have been.
    fn leave_out(
        &self,
        messages: &[Candidate],
        decisions: &mut [Decision],
        worker: &mut Worker,
    ) -> Result<(), WireError> {
        let Some(before) = &self.chain.before else {
            return Ok(());
        };
        let deliver = decisions.iter().enumerate();
        let deliver = deliver.filter(|(_, it)| matches!(it, Decision::Deliver));
        let deliver = deliver.map(|(index, _)| index);
        let asked = deliver.filter(|it| before.was_asked_about(messages[*it].0));
        let mut delivered: Vec<usize> = asked.collect();
        for by in &before.by {
            let verdicts = self.verdicts(by, messages, &delivered, worker)?;
            let mut verdicts = verdicts.into_iter();
            delivered.retain(|_| verdicts.next() == Some(Verdict::Deliver));
        }
        for index in delivered {
            decisions[index] = Decision::Reject;
        }
        Ok(())
    }

    /// Nothing is decided behind a message that holds the queue up.
    fn cut(&self, decisions: &mut Vec<Decision>) {
        let holds_up = |it: &Decision| match (it, self.whose.policy) {
            (Decision::Failed { .. }, FilterFailure::Stall) => true,
            (Decision::Failed { is_at_fault, .. }, FilterFailure::Park) => !is_at_fault,
            _ => false,
        };
        if let Some(first) = decisions.iter().position(holds_up) {
            decisions.truncate(first + 1);
        }
    }

    /// Asks one link about the first of these messages, as many as one version decides and a batch holds; what it cannot
    /// say, who stands in for it does.
    fn ask(
        &mut self,
        link: usize,
        messages: &[Candidate],
        which: &[usize],
        worker: &mut Worker,
    ) -> Result<Vec<Decision>, WireError> {
        let Some(first) = which.first() else {
            return Ok(Vec::new());
        };
        let deciders = &self.chain.links[link].deciders;
        let side_of = |it: &usize| deciders.side(self.queue, messages[*it].0);
        let side = side_of(first);
        let run = which.iter().take_while(|it| side_of(it) == side).count();
        let mut decisions = match side {
            Side::Usual => self.ask_usual(link, messages, &which[..run], worker)?,
            side => self.ask_side((link, side), messages, &which[..run], worker)?,
        };
        self.otherwise(link, (messages, which), &mut decisions, worker)?;
        Ok(decisions)
    }

    /// What another says of messages the filter has failed on, or was not asked about.
    fn otherwise(
        &mut self,
        link: usize,
        (messages, which): (&[Candidate], &[usize]),
        decisions: &mut [Decision],
        worker: &mut Worker,
    ) -> Result<(), WireError> {
        let chain = Arc::clone(&self.chain);
        let Some(otherwise) = &chain.links[link].otherwise else {
            return Ok(());
        };
        let is_open = |it: &usize| matches!(decisions[*it], Decision::Failed { .. });
        let open: Vec<usize> = (0..decisions.len()).filter(is_open).collect();
        let asked: Vec<usize> = open.iter().map(|it| which[*it]).collect();
        let verdicts = self.verdicts(otherwise, messages, &asked, worker)?;
        for (index, verdict) in open.into_iter().zip(verdicts) {
            let said = match verdict {
                Verdict::Deliver => Decision::Deliver,
                Verdict::Reject => Decision::Reject,
                // Then it is the group's to say what becomes of it.
                Verdict::Unjudged => continue,
            };
            let before = std::mem::replace(&mut decisions[index], said);
            if let Decision::Failed { fault, .. } = before {
                self.instead.push((which[index], fault.plugin));
            }
        }
        Ok(())
    }

    /// What one filter says of all these: what it has said before, else what it says now, in as many batches as it
    /// takes.
    fn verdicts(
        &self,
        by: &Subscription,
        messages: &[Candidate],
        which: &[usize],
        worker: &mut Worker,
    ) -> Result<Vec<Verdict>, WireError> {
        let memory = &self.broker.verdicts;
        let asked = memory.asked(by);
        let mut known = asked.map(|it| memory.of(it, self.topic.id, self.queue));
        let (said, open) = said_and_open(known.as_mut(), messages, which);
        by.plugin().remembered((which.len() - open.len()) as u64);
        let mut verdicts = Vec::with_capacity(open.len());
        while let Some(rest) = open.get(verdicts.len()..).filter(|it| !it.is_empty()) {
            let batch = self.lay_out(by, messages, rest)?;
            verdicts.append(&mut worker.judge(by, &batch).verdicts);
        }
        let mut verdicts = verdicts.into_iter();
        let all = said.into_iter().map_while(|said| match said {
            Some(true) => Some(Verdict::Deliver),
            Some(false) => Some(Verdict::Reject),
            None => verdicts.next(),
        });
        Ok(all.collect())
    }

    /// Asks the usual version of a link, about nothing that it has been asked about before.
    fn ask_usual(
        &mut self,
        link: usize,
        messages: &[Candidate],
        which: &[usize],
        worker: &mut Worker,
    ) -> Result<Vec<Decision>, WireError> {
        let (broker, place) = (self.broker, (self.topic.id, self.queue));
        let known = self.chain.links[link].known(&broker.verdicts, place);
        let Some(mut known) = known else {
            return self.ask_side((link, Side::Usual), messages, which, worker);
        };
        let (said, open) = said_and_open(Some(&mut known), messages, which);
        let asked = match open.is_empty() {
            true => Vec::new(),
            false => self.ask_side((link, Side::Usual), messages, &open, worker)?,
        };
        for (index, decision) in open.iter().zip(&asked) {
            match decision {
                Decision::Reject => known.learn(messages[*index].0, false),
                Decision::Deliver => known.learn(messages[*index].0, true),
                Decision::Failed { .. } => {}
            }
        }
        let count = asked.len();
        let mut asked = asked.into_iter();
        let decisions = said.into_iter().map_while(|said| match said {
            Some(true) => Some(Decision::Deliver),
            Some(false) => Some(Decision::Reject),
            None => asked.next(),
        });
        let decisions: Vec<Decision> = decisions.collect();
        let plugin = self.chain.links[link].deciders.usual.plugin();
        plugin.remembered((decisions.len() - count) as u64);
        Ok(decisions)
    }

    fn ask_side(
        &mut self,
        (link, side): (usize, Side),
        messages: &[Candidate],
        which: &[usize],
        worker: &mut Worker,
    ) -> Result<Vec<Decision>, WireError> {
        let decider = self.chain.links[link].deciders.decider(side);
        if side != Side::Canary
            && let Err(fault) = self.may_ask(&decider)
        {
            // Of all of them at once: they need not even be laid out.
            let failed = Decision::Failed {
                fault,
                is_at_fault: false,
            };
            return Ok(vec![failed; which.len()]);
        }
        let batch = self.lay_out(&decider, messages, which)?;
        let which = &which[..batch.len()];
        let judged = worker.judge(&decider, &batch);
        let on_trial = self.chain.links[link].deciders.on_trial.clone();
        let tried = on_trial.filter(|_| side == Side::Canary);
        if tried.is_none() {
            self.note(&decider, (messages, which), &judged);
        }
        self.spent(&decider, tried.as_ref().map(|it| &it.tried), &judged);
        let mut decisions = said(side, &judged);
        if self.chain.links[link].deciders.on_trial.is_some() {
            self.calls.push(Call {
                link,
                side,
                messages: which[..decisions.len()].to_vec(),
                verdicts: judged.verdicts,
            });
        }
        // The active version decides the first that a canary fails on, and once its trial is over all that follow.
        if let (Side::Canary, Some(failed)) = (side, which.get(decisions.len())) {
            let is_over = self.canary_failed(link, messages[*failed].0);
            let rest = &which[decisions.len()..];
            let rest = if is_over { rest } else { &rest[..1] };
            decisions.extend(self.ask_usual(link, messages, rest, worker)?);
        }
        Ok(decisions)
    }

    /// Unless it failed so often that nobody asks it now.
    fn may_ask(&self, decider: &Subscription) -> Result<(), Fault> {
        let (breakers, store) = (&self.broker.breakers, &self.broker.store);
        match breakers.is_empty() {
            true => Ok(()),
            false => breakers.may_ask(&self.asker(decider), store.steady_ms()),
        }
    }

    /// Tells those who keep count of it what a call to a usual version brought.
    fn note(
        &mut self,
        decider: &Subscription,
        (messages, which): (&[Candidate], &[usize]),
        judged: &Judged,
    ) {
        let (broker, plugin) = (self.broker, decider.plugin());
        let at_fault = judged.at_fault.iter().filter_map(|it| which.get(*it));
        let at_fault = at_fault.map(|it| self.case(messages[*it].0));
        let at_fault: Vec<_> = at_fault.collect();
        let asked = health::Asked {
            messages: which.len(),
            at_fault: &at_fault,
            fault: judged.fault.as_ref(),
            now: broker.store.steady_ms(),
        };
        if asked.is_impure() {
            broker.verdicts.distrust(plugin.digest());
        }
        // Where nothing failed and nothing is open, nobody has to know who asked.
        let is_told = asked.fault.is_some() || !broker.breakers.is_empty();
        let asker = is_told.then(|| self.asker(decider));
        self.found
            .asked(broker, plugin.name(), asker.as_ref(), &asked);
    }

    fn asker(&self, decider: &Subscription) -> Asker {
        Asker {
            plugin: decider.plugin().name().to_owned(),
            params: decider.params().to_vec(),
            expression: decider.expression().to_owned(),
            topic: self.topic.name.clone(),
            group: self.whose.group.cloned(),
        }
    }

    /// What a call took, which is not to be far more than with another version.
    fn spent(&mut self, decider: &Subscription, tried: Option<&Tried>, judged: &Judged) {
        let spent = Spent {
            topic: self.topic.id,
            messages: judged.verdicts.len(),
            fuel: judged.fuel,
        };
        if judged.fault.is_none() {
            self.found.spent(self.broker, decider, tried, spent);
        }
    }

    /// A batch of the first messages, as many as it holds.
    fn lay_out(
        &self,
        decider: &Subscription,
        messages: &[Candidate],
        which: &[usize],
    ) -> Result<Batch, WireError> {
        let mut batch = decider.batch();
        for index in which {
            let (offset, record) = &messages[*index];
            let view = RecordView::trusted(record).map_err(|error| {
                WireError::new(Code::DATA_CORRUPT, format!("offset {offset}: {error}"))
            })?;
            filters::add(&mut batch, decider, &self.topic.name, &view);
            if batch.is_full() {
                break;
            }
        }
        Ok(batch)
    }

    /// `true` = once too often.
    fn canary_failed(&mut self, link: usize, offset: QueueOffset) -> bool {
        let Some(on) = self.chain.links[link].deciders.on_trial.clone() else {
            return true;
        };
        let case = self.case(offset);
        let is_over = self.broker.trials.failed(&on.tried, [case]);
        if is_over {
            self.found.too_many_faults(&on.tried);
        }
        is_over
    }

    fn case(&self, offset: QueueOffset) -> Case {
        Case::Message(self.topic.id, self.queue, offset)
    }

    fn at(&self) -> At<'_> {
        At {
            topic: self.topic.id,
            name: &self.topic.name,
            queue: self.queue,
        }
    }

    /// So many of the messages are dealt with: counts what canaries have decided of them, and asks shadows about
    /// what the usual versions have decided. What was said of the others is said again when they are met again.
    pub(crate) fn count(
        &mut self,
        messages: &[Candidate],
        dealt_with: usize,
        worker: &mut Worker,
    ) -> Result<(), WireError> {
        for (index, plugin) in std::mem::take(&mut self.instead) {
            if index < dealt_with {
                self.broker.health.stood_in(&plugin, |it| it.instead += 1);
            }
        }
        for call in std::mem::take(&mut self.calls) {
            let Some(on) = self.chain.links[call.link].deciders.on_trial.clone() else {
                continue;
            };
            let of_these = call.messages.iter().take_while(|it| **it < dealt_with);
            let which = &call.messages[..of_these.count()];
            match call.side {
                Side::Canary => self.broker.trials.decided(&on.tried, which.len() as u64),
                Side::Shadowed => self.compare(&on, messages, (which, &call.verdicts), worker)?,
                Side::Usual => {}
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        on: &OnTrial,
        messages: &[Candidate],
        (mut which, mut verdicts): (&[usize], &[Verdict]),
        worker: &mut Worker,
    ) -> Result<(), WireError> {
        while !which.is_empty() {
            let batch = self.lay_out(&on.subscription, messages, which)?;
            let taken = batch.len();
            let shadow = worker.judge(&on.subscription, &batch);
            self.spent(&on.subscription, Some(&on.tried), &shadow);
            let part = which.iter().zip(verdicts);
            let part = part.zip(shadow.verdicts).take(taken);
            let said = part.map(|((it, active), by_trial)| (messages[*it].0, *active, by_trial));
            if self.broker.trials.compared(&on.tried, self.at(), said) {
                self.found.too_many_faults(&on.tried);
            }
            (which, verdicts) = (&which[taken..], &verdicts[taken..]);
        }
        Ok(())
    }
}

/// What is known to have been said of each of these, and those of which nothing is.
fn said_and_open(
    mut known: Option<&mut Known<'_>>,
    messages: &[Candidate],
    which: &[usize],
) -> (Vec<Option<bool>>, Vec<usize>) {
    let said = which.iter().map(|it| known.as_mut()?.said(messages[*it].0));
    let said: Vec<Option<bool>> = said.collect();
    let open = which.iter().zip(&said).filter(|(_, said)| said.is_none());
    let open = open.map(|(it, _)| *it).collect();
    (said, open)
}

/// What the first verdicts come to: up to the first message that was not asked about any more, which is asked about
/// again, or that a canary fails on, which the active version decides.
fn said(side: Side, judged: &Judged) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(judged.verdicts.len());
    for (index, verdict) in judged.verdicts.iter().enumerate() {
        decisions.push(match (verdict, &judged.fault) {
            (Verdict::Reject, _) => Decision::Reject,
            (Verdict::Deliver, _) => Decision::Deliver,
            (Verdict::Unjudged, Some(fault)) if side != Side::Canary => {
                let is_at_fault = judged.at_fault.contains(&index);
                if !is_at_fault && index > 0 {
                    break;
                }
                Decision::Failed {
                    fault: fault.clone(),
                    is_at_fault,
                }
            }
            (Verdict::Unjudged, _) => break,
        });
    }
    decisions
}
