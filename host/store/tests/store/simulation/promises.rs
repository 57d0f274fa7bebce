//! What a store owes, and whether it keeps it: what was acknowledged is there for good, what was not is there whole
//! or not at all.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use quern_protocol::{QueueId, TopicId};
use quern_store::audit::audit;
use quern_store::fs::Fs;
use quern_store::{AppendError, Appended};

use super::life::{DIR, Life, QUEUES, STATE};
use super::world::{Asked, Simulation};

impl Simulation {
    /// Takes the answers that have come.
    pub(super) fn settle(&mut self, life: &Life) {
        let mut context = Context::from_waker(Waker::noop());
        for mut asked in std::mem::take(&mut self.asked) {
            let answer = match &mut asked.pending {
                Some(pending) => Pin::new(pending).poll(&mut context),
                None => Poll::Pending,
            };
            match answer {
                Poll::Pending => self.asked.push(asked),
                Poll::Ready(Ok(appended)) => self.acknowledged(life, asked, appended),
                // Certainly not stored.
                Poll::Ready(Err(AppendError::DiskFull)) => {
                    self.full = true;
                    self.reach("disk full");
                }
                Poll::Ready(Err(error)) => {
                    if matches!(error, AppendError::Failed(_)) {
                        self.failed = true;
                        self.reach("log failed");
                    }
                    asked.pending = None;
                    self.asked.push(asked);
                }
            }
        }
        self.settle_waiting(life);
    }

    fn acknowledged(&mut self, life: &Life, asked: Asked, appended: Appended) {
        let repeat = self.repeat();
        let Asked { queue, bodies, .. } = asked;
        let known = self.known.entry(queue).or_default();
        if queue != STATE {
            assert_eq!(appended.first.0, known.len() as u64, "{repeat}");
        }
        known.extend(bodies);
        let known = known.len();
        let visible = if queue == STATE {
            life.heard.lock().unwrap().len()
        } else {
            life.store.range(TopicId(1), QueueId(queue)).1.0 as usize
        };
        assert!(visible >= known, "acknowledged is visible; {repeat}");
        if self.full && queue == STATE {
            self.reach("disk full, and the broker's own records taken");
        } else if self.full {
            self.reach("disk full, and room again");
        }
        // Acknowledged is durable, whatever happens next.
        if self.random.u8(0..40) == 0 {
            let image = self.fs.crash(self.random.u64(..));
            let found = audit(DIR.as_ref(), &image, &mut |_| ControlFlow::Continue(()));
            let found = found.unwrap_or_else(|error| self.fail(&error.to_string()));
            assert_eq!(found.damage, [], "{repeat}");
            assert!(found.end > appended.position, "{repeat}");
        }
    }

    /// What is there is what was promised: everything acknowledged, and of the rest, in its order,
    /// whole batches.
    pub(super) fn compare(&mut self, life: &Life) {
        let mut asked: BTreeMap<u32, Vec<Vec<String>>> = BTreeMap::new();
        for it in self.asked.drain(..) {
            asked.entry(it.queue).or_default().push(it.bodies);
        }
        for queue in 0..=QUEUES {
            let stored = life.contents(queue).into_iter();
            let found: Vec<String> = stored.map(|(_, body)| body).collect();
            let mut expected = self.known.remove(&queue).unwrap_or_default();
            let mut rest = asked.remove(&queue).unwrap_or_default().into_iter();
            let first = life.first(queue);
            let len = first + found.len();
            while expected.len() < len {
                match rest.next() {
                    Some(bodies) => expected.extend(bodies),
                    None => self.fail(&format!("queue {queue} has what nobody sent")),
                }
            }
            let seen = self.seen.get(&queue).copied().unwrap_or(0);
            if (len as u64) < seen {
                self.fail(&format!(
                    "queue {queue} was seen up to {seen}, and is shorter now"
                ));
            }
            if expected.get(first..) != Some(&found[..]) {
                let (have, want) = (len, expected.len());
                self.fail(&format!("queue {queue} is wrong: {have} found, {want} due"));
            }
            self.known.insert(queue, expected);
        }
        self.compare_waiting(life);
        self.last_resort(life);
    }

    /// The commit log alone is enough.
    fn last_resort(&mut self, life: &Life) {
        if self.random.u8(0..4) > 0 {
            return;
        }
        let image = self.fs.crash(0);
        for dir in ["", "consumequeue", "index", "quarantine"] {
            let dir = Path::new(DIR).join(dir);
            for name in image.list(&dir).unwrap_or_default() {
                let _ = image.remove(&dir.join(name));
            }
        }
        let opened = Life::begin(&image, &self.clock, &self.habits);
        let (again, _steps) = opened.unwrap_or_else(|error| self.fail(&error.to_string()));
        for queue in 0..=QUEUES {
            if again.first(queue) != life.first(queue) {
                let (then, now) = (life.first(queue), again.first(queue));
                self.fail(&format!(
                    "queue {queue} began at {then}, and at {now} from the log alone"
                ));
            }
            let bodies = |life: &Life| -> Vec<String> {
                life.contents(queue)
                    .into_iter()
                    .map(|(_, body)| body)
                    .collect()
            };
            if bodies(&again) != bodies(life) {
                self.fail(&format!("queue {queue} is another from the log alone"));
            }
        }
        self.same_waiting(life, &again);
        self.reach("made anew from the log alone");
    }
}
