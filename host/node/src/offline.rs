//! Looking at the data directory of a node that does not run: what is in its log, is it whole, and
//! its messages once more. Only a repair writes to it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use quern_protocol::{
    Block, LogPosition, RecordHeader, RecordKind, RecordView, TopicId, TopicName,
};
use quern_store::audit::{Item, audit};
use quern_store::fs::{Fs, RealFs};

pub use quern_broker::TopicNames;
pub use quern_store::OpenError;
pub use quern_store::audit::{Audit, Damage};
pub use quern_store::repair::{Lost, Mode, Repair};

/// Something in the log, in its order.
#[derive(Debug)]
pub enum Entry<'a> {
    Segment {
        file: String,
        base: LogPosition,
        size: u64,
    },
    /// What one write brought and one sync made durable.
    Group {
        position: LogPosition,
        bytes: u32,
        records: u32,
        stored_at: u64,
        durable_upto: LogPosition,
        /// "data", "stamp" or "seal".
        kind: &'static str,
    },
    Record {
        header: RecordHeader,
        /// Of the message; `None` for the broker's own records, or when the log does not tell.
        topic: Option<&'a TopicName>,
        block: Block<'a>,
    },
}

/// Verifies the log of a data directory and hands out all that is in it, until told to stop. Blocks.
pub fn read(
    dir: &Path,
    visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<Audit, OpenError> {
    read_naming(dir, &mut TopicNames::default(), visit)
}

/// The same, and the names of topics in the end: a log that has let its beginning go may name one only behind messages
/// of it.
pub fn read_naming(
    dir: &Path,
    names: &mut TopicNames,
    visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
) -> Result<Audit, OpenError> {
    audit(dir, &RealFs, &mut |item| match item {
        Item::Segment { file, base, size } => visit(Entry::Segment { file, base, size }),
        Item::Group {
            position,
            bytes,
            records,
            stored_at,
            durable_upto,
            kind,
            ..
        } => visit(Entry::Group {
            position,
            bytes,
            records,
            stored_at,
            durable_upto,
            kind,
        }),
        Item::Recalled { kind, body } => {
            if kind == RecordKind::Topic {
                learn(names, body);
            }
            ControlFlow::Continue(())
        }
        Item::Record { header, bytes } => {
            // It was verified a moment ago.
            let Ok(RecordView { block, .. }) = RecordView::parse(bytes) else {
                return ControlFlow::Continue(());
            };
            if header.kind == RecordKind::Topic {
                learn(names, block.stored_body());
            }
            let is_message = header.kind == RecordKind::Message;
            let topic = names.of(header.topic).filter(|_| is_message);
            visit(Entry::Record {
                header,
                topic,
                block,
            })
        }
    })
}

/// Repairs the log of a data directory, or says what there is to repair; with the names of the topics that
/// have lost messages, where the log tells. Blocks.
pub fn repair(dir: &Path, mode: Mode) -> Result<(Repair, HashMap<TopicId, TopicName>), OpenError> {
    let mut names = TopicNames::default();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let repaired = quern_store::repair::repair(dir, &fs, mode, &mut |item| match item {
        Item::Recalled {
            kind: RecordKind::Topic,
            body,
        } => learn(&mut names, body),
        Item::Record { header, bytes } if header.kind == RecordKind::Topic => {
            if let Ok(RecordView { block, .. }) = RecordView::parse(bytes) {
                learn(&mut names, block.stored_body());
            }
        }
        _ => {}
    })?;
    let lost = repaired.lost.iter().flat_map(|lost| &lost.messages);
    let named = lost.filter_map(|it| Some((it.topic, names.of(it.topic)?.clone())));
    let named = named.collect();
    Ok((repaired, named))
}

fn learn(names: &mut TopicNames, body: &[u8]) {
    if let Err(why) = names.learn(body) {
        tracing::warn!(why, "a topic record is not understood");
    }
}
