//! One life of a store: what is opened, and how it is looked at.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::{Code, LogPosition, QueueId, RecordKind, RecordView, TopicId};
use quern_store::clock::ManualClock;
use quern_store::sim::SimFs;
use quern_store::{
    Config, Dispatched, Entry, Env, Observer, OpenError, Report, Retention, StateRecord, Steps,
    Store,
};

pub(super) const DIR: &str = "/q";
pub(super) const LOG: &str = "/q/commitlog";
pub(super) const SEGMENT: u64 = 64 * 1024;
/// Bytes of a disk that is large enough.
pub(super) const ROOM: u64 = 1 << 30;
/// Queues of the one topic; state records are a sequence of their own.
pub(super) const QUEUES: u32 = 3;
pub(super) const STATE: u32 = QUEUES;

/// A message or state record, and where the log has it.
pub(super) type Stored = (LogPosition, String);

/// Remembers the state records of a log. Its snapshot says of each where it was.
struct Listener(Arc<Mutex<Vec<Stored>>>);

impl Observer for Listener {
    fn dispatched(&mut self, event: Dispatched<'_>) {
        let Dispatched::State {
            kind,
            mut position,
            body,
        } = event
        else {
            return;
        };
        let mut body = String::from_utf8(body.to_vec()).unwrap();
        if kind == RecordKind::Group {
            let (at, said) = body.split_once('|').unwrap();
            position = LogPosition(at.parse().unwrap());
            body = said.to_owned();
        }
        self.0.lock().unwrap().push((position, body));
    }

    fn snapshot(&mut self) -> Vec<StateRecord> {
        let say = |(position, body): &Stored| StateRecord {
            kind: RecordKind::Group,
            body: format!("{position}|{body}").into_bytes(),
        };
        self.0.lock().unwrap().iter().map(say).collect()
    }
}

/// A store that runs, and what is known about it.
pub(super) struct Life {
    pub(super) store: Store,
    pub(super) report: Report,
    pub(super) heard: Arc<Mutex<Vec<Stored>>>,
}

impl Life {
    pub(super) fn begin(
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        habits: &Habits,
    ) -> Result<(Self, Steps), OpenError> {
        let heard: Arc<Mutex<Vec<Stored>>> = Arc::default();
        let observer = Box::new(Listener(Arc::clone(&heard)));
        let config = Config {
            segment_size: Some(SEGMENT),
            stamp_after: Duration::from_millis(50),
            checkpoint_every: habits.checkpoint_every,
            retention: Retention {
                age: None,
                bytes: habits.keeps,
                hours: Vec::new(),
            },
            ..Config::new(DIR)
        };
        let env = Env {
            fs: Arc::new(fs.clone()),
            clock: Arc::clone(clock) as _,
        };
        let (store, report, steps) = Store::open_in_steps(&config, env, observer)?;
        let life = Self {
            store,
            report,
            heard,
        };
        Ok((life, steps))
    }

    pub(super) fn entries(&self, queue: u32) -> Vec<Entry> {
        let (min, max) = self.store.range(TopicId(1), QueueId(queue));
        let entries = self
            .store
            .entries(TopicId(1), QueueId(queue), min, usize::MAX)
            .unwrap();
        let offsets = entries.iter().map(|entry| entry.offset.0);
        assert!(offsets.eq(min.0..max.0), "offsets have no gaps");
        entries
    }

    /// The first that is still there.
    pub(super) fn first(&self, queue: u32) -> usize {
        match queue {
            STATE => 0,
            _ => self.store.range(TopicId(1), QueueId(queue)).0.0 as usize,
        }
    }

    pub(super) fn body(&self, entry: &Entry) -> Result<String, Code> {
        let record = self.store.record(entry).map_err(|error| error.code())?;
        Ok(body(&record))
    }

    /// All there is, of a queue or of state.
    pub(super) fn contents(&self, queue: u32) -> Vec<Stored> {
        if queue == STATE {
            return self.heard.lock().unwrap().clone();
        }
        let entries = self.entries(queue);
        let records = self.store.records(&entries).unwrap();
        assert_eq!(records.len(), entries.len(), "all of it can be read");
        let stored = |(entry, record): (&Entry, Bytes)| (entry.position, body(&record));
        entries.iter().zip(records).map(stored).collect()
    }
}

fn body(record: &[u8]) -> String {
    let view = RecordView::parse(record).unwrap();
    String::from_utf8(view.block.stored_body().to_vec()).unwrap()
}

/// What the stores of one seed do their own way.
pub(super) struct Habits {
    pub(super) checkpoint_every: u64,
    /// Bytes of log that are kept; all when `None`.
    pub(super) keeps: Option<u64>,
}
