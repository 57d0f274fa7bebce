//! A window against a broker that remembers as a store does, under everything a network can do.

use std::collections::{BTreeMap, VecDeque};

use super::*;

fn taken(window: &mut Window, count: usize) -> Vec<u32> {
    let taken = (0..count).map_while(|_| window.take());
    taken.map(|batch| batch.sequence).collect()
}

#[test]
fn each_setback_has_its_verdict() {
    use Setback::{Fenced, Forgotten, Lost, NotTaken, OutOfSequence};
    use Verdict::{Again, NotStored, Unknown};
    // (what happens to frame 1 after frame 0 was stored, the last verdict)
    let cases: [(&[Setback], Verdict); 9] = [
        (&[NotTaken], NotStored),
        (&[Lost], Again),
        (&[Lost, NotTaken], Again),
        (&[Lost, OutOfSequence], NotStored),
        (&[OutOfSequence], NotStored),
        (&[Forgotten], NotStored),
        (&[Lost, Forgotten], Unknown),
        (&[Fenced], NotStored),
        (&[Lost, Fenced], Unknown),
    ];
    for (setbacks, last) in cases {
        let mut window = Window::new();
        let id = window.id;
        taken(&mut window, 2);
        window.stored(0);
        let verdicts = setbacks.iter().map(|it| window.judge(1, *it));
        assert_eq!(verdicts.last(), Some(last), "{setbacks:?}");
        if last == Again {
            assert_eq!(window.take(), None, "nothing overtakes one in doubt");
            continue;
        }
        let next = window.take().unwrap();
        let is_fenced = setbacks.contains(&Fenced);
        assert_eq!(next.sequence, 0, "{setbacks:?}");
        assert_eq!(
            (next.producer != id, next.epoch == 0),
            (is_fenced, is_fenced)
        );
    }
}

#[test]
fn no_more_are_unanswered_than_a_broker_recognises() {
    let mut window = Window::new();
    assert_eq!(taken(&mut window, 9), [0, 1, 2, 3, 4]);
    window.stored(3);
    assert_eq!(window.take(), None, "0 must stay within reach");
    window.stored(0);
    assert_eq!(taken(&mut window, 9), [5]);
}

#[test]
fn those_behind_an_unused_number_are_not_stored_and_those_behind_a_doubtful_one_may_be() {
    let mut window = Window::new();
    taken(&mut window, 3);
    window.judge(2, Setback::Lost);
    assert_eq!(window.judge(0, Setback::NotTaken), Verdict::NotStored);
    assert!(window.is_turn_of(2), "it need not wait to hear it");
    assert_eq!(window.judge(1, Setback::Lost), Verdict::NotStored);
    assert_eq!(window.give_up(2), Verdict::NotStored);

    taken(&mut window, 2);
    window.judge(0, Setback::Lost);
    window.judge(1, Setback::Lost);
    assert_eq!(window.give_up(0), Verdict::Unknown);
    assert_eq!(window.judge(1, Setback::OutOfSequence), Verdict::Unknown);
    assert_eq!(
        window.take().map(|it| (it.epoch, it.sequence)),
        Some((2, 0))
    );
}

/// What a store does with a producer's batches, told by its paper and not by its code.
#[derive(Default)]
struct Store {
    /// Epoch, and the last sequences stored in it.
    window: Option<(u16, VecDeque<u32>)>,
    messages: BTreeMap<u32, usize>,
}

impl Store {
    fn send(&mut self, batch: ProducerBatch, message: u32) -> std::result::Result<(), Setback> {
        let (epoch, stored) = match &mut self.window {
            Some((epoch, _)) if batch.epoch < *epoch => return Err(Setback::Fenced),
            Some((epoch, stored)) if batch.epoch == *epoch => (*epoch, stored),
            other => {
                if batch.sequence != 0 {
                    return Err(match other {
                        Some(_) => Setback::OutOfSequence,
                        None => Setback::Forgotten,
                    });
                }
                *other = Some((batch.epoch, VecDeque::new()));
                (batch.epoch, &mut other.as_mut().unwrap().1)
            }
        };
        assert_eq!(epoch, batch.epoch);
        if stored.contains(&batch.sequence) {
            return Ok(());
        }
        let next = stored.back().map_or(0, |last| last + 1);
        if batch.sequence != next {
            return Err(Setback::OutOfSequence);
        }
        stored.push_back(batch.sequence);
        if stored.len() > limits::NUMBERED {
            stored.pop_front();
        }
        *self.messages.entry(message).or_default() += 1;
        Ok(())
    }
}

/// A frame under way, for one message.
#[derive(Clone, Copy)]
struct Frame {
    batch: ProducerBatch,
    message: u32,
    waits: bool,
    /// What became of an attempt, not yet heard.
    outcome: Option<std::result::Result<(), Setback>>,
}

/// Messages each run sends.
const MESSAGES: u32 = 60;

/// Sends messages one a frame; requests are lost, doubled, held up and refused by chance, answers lost.
struct Run {
    chance: fastrand::Rng,
    window: Window,
    store: Store,
    to_send: VecDeque<u32>,
    frames: Vec<Frame>,
    /// Copies still on their way, of frames that were given up on or sent again.
    stragglers: Vec<(ProducerBatch, u32)>,
    acknowledged: Vec<u32>,
    unknown: Vec<u32>,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            window: Window::new(),
            store: Store::default(),
            to_send: (0..MESSAGES).collect(),
            frames: Vec::new(),
            stragglers: Vec::new(),
            acknowledged: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// False = all is over.
    fn step(&mut self) -> bool {
        if let Some(message) = self.to_send.front().copied()
            && let Some(batch) = self.window.take()
        {
            self.to_send.pop_front();
            self.frames.push(Frame {
                batch,
                message,
                waits: false,
                outcome: None,
            });
        }
        if !self.stragglers.is_empty() && self.chance.u8(..3) == 0 {
            let at = self.chance.usize(..self.stragglers.len());
            let (batch, message) = self.stragglers.swap_remove(at);
            let _ = self.store.send(batch, message);
        }
        if self.frames.is_empty() {
            return !self.to_send.is_empty();
        }
        let at = self.chance.usize(..self.frames.len());
        let Frame { batch, waits, .. } = self.frames[at];
        if let Some(outcome) = self.frames[at].outcome.take() {
            self.settle(at, outcome);
        } else if !waits || self.window.is_turn_of(batch.sequence) {
            self.frames[at].outcome = Some(self.attempt(at));
        }
        true
    }

    fn attempt(&mut self, at: usize) -> std::result::Result<(), Setback> {
        let Frame { batch, message, .. } = self.frames[at];
        match self.chance.u8(..16) {
            0 => Err(Setback::NotTaken),
            1 | 4 | 5 => {
                self.stragglers.push((batch, message));
                Err(Setback::Lost)
            }
            2 => self.store.send(batch, message).and(Err(Setback::Lost)),
            3 => {
                self.store.send(batch, message)?;
                self.stragglers.push((batch, message));
                Ok(())
            }
            _ => self.store.send(batch, message),
        }
    }

    fn settle(&mut self, at: usize, outcome: std::result::Result<(), Setback>) {
        let Frame { batch, message, .. } = self.frames[at];
        let Err(setback) = outcome else {
            self.window.stored(batch.sequence);
            self.acknowledged.push(message);
            self.frames.swap_remove(at);
            return;
        };
        let mut verdict = self.window.judge(batch.sequence, setback);
        if verdict == Verdict::Again && self.chance.u8(..6) == 0 {
            verdict = self.window.give_up(batch.sequence);
        }
        match verdict {
            Verdict::Again => {
                self.frames[at].waits = true;
                return;
            }
            Verdict::NotStored => self.to_send.push_front(message),
            Verdict::Unknown => self.unknown.push(message),
        }
        self.frames.swap_remove(at);
    }
}

#[test]
fn whatever_the_network_does_what_is_acknowledged_is_stored_once() {
    for seed in 0..5_000 {
        let mut run = Run::new(seed);
        let steps = (0..100_000).take_while(|_| run.step()).count();
        assert!(steps < 100_000, "seed {seed}: it comes to no end");
        for (batch, message) in std::mem::take(&mut run.stragglers) {
            let _ = run.store.send(batch, message);
        }
        let times = |message| run.store.messages.get(message).copied();
        for message in &run.acknowledged {
            assert_eq!(times(message), Some(1), "seed {seed}: {message}");
        }
        let mut all = run.store.messages.values();
        assert!(all.all(|times| *times == 1), "seed {seed}");
        let told = run.acknowledged.len() + run.unknown.len();
        assert_eq!(told, MESSAGES as usize, "seed {seed}");
    }
}
