//! `quern msg trace`: what became of one message, on one screen.

use quern_client::{
    Found, GroupCopy, GroupTrace, MessageState, MessageTrace, Opinion, OpinionRole, Said,
    TraceRecord, Traced, TransactionEnd, parked_topic, retry,
};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::msg::{self, Which};
use crate::output::{self, Output};
use crate::time;

pub(crate) async fn run(
    which: &Which,
    trace_topic: &str,
    options: &Options,
) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let mut found = which.find(&client).await?;
    let mut others = found.messages.split_off(1);
    let Some(first) = found.messages.pop() else {
        return Ok(());
    };
    // By its handle or its place it was found alone.
    let id = first.message.message_id();
    if others.is_empty() && !id.is_empty() {
        others = msg::of_id(&client, id).await?;
    }
    let trace = client.admin().trace(&first, &others).await?;
    let id = trace.message.message.message_id();
    let records = match id {
        "" => Vec::new(),
        id => client.admin().records_of(id, trace_topic).await?,
    };
    let document = || Document::new(&trace, &records);
    match options.output {
        Output::Human => output::print(&(page(&trace) + &written(&records))),
        Output::Json => output::print(&(output::json(&document())? + "\n")),
        Output::Ndjson => output::print(&(output::line(&document())? + "\n")),
    }?;
    msg::tell(&found)
}

fn page(trace: &MessageTrace) -> String {
    let (message, found) = (&trace.message.message, &trace.message);
    let queue = message.queue();
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<10} {value}\n"));
    line("id", message.message_id().to_owned());
    line("topic", queue.topic.to_string());
    line("born", time::shown(message.born_at()));
    if let Some(waited) = &trace.waited {
        line("waited", waiting(waited));
    }
    let stored = (time::shown(message.stored_at()), message.handle());
    line("stored", format!("{} as {}", stored.0, stored.1));
    if let Some(ended) = ended(trace) {
        line("ended", ended);
    }
    match found.state {
        MessageState::Queued => line(
            "in",
            format!(
                "{} queue {} offset {}",
                queue.broker,
                queue.queue,
                message.offset()
            ),
        ),
        state => line("state", msg::words(state)),
    }
    for again in &trace.again {
        let (at, queue) = (
            time::shown(again.message.stored_at()),
            again.message.queue(),
        );
        let offset = again.message.offset();
        line(
            "again",
            format!(
                "{at} in {} queue {} offset {offset}",
                queue.broker, queue.queue
            ),
        );
    }
    if found.state == MessageState::Queued && trace.groups.is_empty() {
        line("groups", "nobody consumes the topic".to_owned());
    }
    if !trace.groups.is_empty() {
        let rows: Vec<_> = trace.groups.iter().map(|it| row(found, it)).collect();
        out.push('\n');
        out.push_str(&output::table(
            &["GROUP", "FILTER", "DECIDED BY", "VERDICT", "PROGRESS"],
            &rows,
        ));
    }
    let more: Vec<_> = trace.groups.iter().flat_map(lines).collect();
    if !more.is_empty() {
        out.push('\n');
        out.push_str(&more.concat());
    }
    out
}

/// What one waited for, and since when.
fn waiting(found: &Found) -> String {
    let message = &found.message;
    let since = (time::shown(message.stored_at()), message.handle());
    let what = match (message.due_at(), message.is_of_transaction()) {
        (_, true) => "for its transaction".to_owned(),
        (Some(due_at), false) => format!("until {}", time::shown(due_at)),
        (None, false) => "for its time".to_owned(),
    };
    format!("{what}, from {} as {}", since.0, since.1)
}

/// How its transaction ended, if it is of one that has.
fn ended(trace: &MessageTrace) -> Option<String> {
    let found = &trace.message;
    let message = &found.message;
    let was_half = trace.waited.as_ref();
    let was_half = was_half.is_some_and(|it| it.message.is_of_transaction());
    match found.state {
        MessageState::Queued if was_half && message.queue().topic == parked_topic() => {
            let at = time::shown(message.stored_at());
            Some(format!("nobody could say how, set aside {at}"))
        }
        MessageState::Queued if was_half => {
            Some(format!("committed {}", time::shown(message.stored_at())))
        }
        MessageState::CalledOff if message.is_of_transaction() => Some("rolled back".to_owned()),
        MessageState::Parked { .. } => Some("nobody could say how".to_owned()),
        _ => None,
    }
}

fn row(found: &Found, group: &GroupTrace) -> Vec<String> {
    let deciding: Vec<&Opinion> = deciding(group).collect();
    let filter = group.filter.as_ref().map(ToString::to_string);
    let names: Vec<&str> = deciding.iter().map(|it| it.plugin.as_str()).collect();
    let objects = deciding.iter().find(|it| it.said != Said::Deliver);
    vec![
        group.group.to_string(),
        filter.clone().unwrap_or_else(|| "not known now".to_owned()),
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(", ")
        },
        match (objects, filter) {
            (Some(it), _) => said(&it.said),
            (None, Some(_)) => said(&Said::Deliver),
            // What its members ask for themselves might say something else.
            (None, None) => "-".to_owned(),
        },
        progress(found, group),
    ]
}

/// Those that decide now, all of which have to let a message through.
fn deciding(group: &GroupTrace) -> impl Iterator<Item = &Opinion> {
    let opinions = group.explained.opinions.iter();
    opinions.filter(|it| matches!(it.role, OpinionRole::Decides | OpinionRole::Bound))
}

fn said(said: &Said) -> String {
    match said {
        Said::Deliver => "delivers".to_owned(),
        Said::Reject => "rejects".to_owned(),
        Said::Fails { code, message } => format!("fails: Q-{code} {message}"),
    }
}

/// How far the group is, in words.
fn progress(found: &Found, group: &GroupTrace) -> String {
    let offset = found.message.offset();
    let explained = &group.explained;
    if found.state != MessageState::Queued {
        return "-".to_owned();
    }
    if let Some(popped) = explained.popped {
        match popped.hidden {
            Some(it) => {
                let until = time::shown(it.until);
                return format!("popped {} times, hidden until {until}", it.times);
            }
            None if popped.next > offset => return "popped and acknowledged".to_owned(),
            None => {}
        }
    }
    let owner = match &explained.owner {
        Some(owner) => format!(", {owner} has the queue"),
        None => String::new(),
    };
    match explained.committed {
        None => format!("nothing committed{owner}"),
        Some(next) if next > offset => {
            let is_rejected = deciding(group).any(|it| it.said == Said::Reject);
            let how = if is_rejected {
                "passed over"
            } else {
                "consumed"
            };
            format!("{how}, committed {next}")
        }
        Some(next) => format!(
            "not yet: {} before it, committed {next}{owner}",
            offset.0 - next.0
        ),
    }
}

/// What a row has no room for.
fn lines(group: &GroupTrace) -> Vec<String> {
    let name = &group.group;
    let mut lines = Vec::new();
    let is_alone = deciding(group).count() == 1;
    for it in &group.explained.opinions {
        let who = match it.role {
            // The row has said it.
            OpinionRole::Decides if is_alone => continue,
            OpinionRole::Bound => format!("{}, bound to the group,", it.plugin),
            OpinionRole::StoodInFor => format!("{}, for which another decides,", it.plugin),
            OpinionRole::Decides => it.plugin.clone(),
            OpinionRole::Compared => format!("{}, the other side of a trial,", it.plugin),
            OpinionRole::Decided { from, until } => {
                let (from, until) = (time::shown(from), time::shown(until));
                format!("{}, which decided from {from} until {until},", it.plugin)
            }
        };
        lines.push(format!("{name}: {who} {}\n", said(&it.said)));
    }
    if let Some(stall) = &group.explained.stall {
        let (code, why) = (stall.code, &stall.message);
        lines.push(format!(
            "{name}: the queue waits at offset {}: Q-{code} {why}\n",
            stall.offset
        ));
    }
    lines.extend(group.copies.iter().map(|it| copy(name.as_str(), it)));
    lines
}

fn copy(group: &str, copy: &GroupCopy) -> String {
    let message = &copy.found.message;
    let why = message.property(retry::REASON).unwrap_or_default();
    // What a filter failed on came to no consumer.
    let is_parked = copy.is_dead && message.attempts() == 0 && why.starts_with("Q-");
    let what = match (copy.is_dead, message.attempts()) {
        (true, _) if is_parked => "parked, a filter failed on it".to_owned(),
        (true, times) => format!("dead letter, given back {times} times"),
        (false, 0) => "sent again".to_owned(),
        (false, times) => format!("given back {times} times"),
    };
    let state = match (copy.found.state, copy.is_consumed, copy.is_dead) {
        (MessageState::Waits { due_at }, ..) => format!("comes at {}", time::shown(due_at)),
        (_, true, true) => "dealt with".to_owned(),
        (_, false, true) => "not dealt with".to_owned(),
        (_, true, false) => "consumed".to_owned(),
        (_, false, false) => "not consumed yet".to_owned(),
    };
    let at = time::shown(message.stored_at());
    format!("{group}: {at} {what}: {state}; {why}\n")
}

/// What clients have written down.
fn written(records: &[TraceRecord]) -> String {
    let line = |it: &TraceRecord| format!("{} {}\n", time::shown(it.at), told(it));
    let lines: Vec<_> = records.iter().map(line).collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("\n{}", lines.concat()),
    }
}

fn told(record: &TraceRecord) -> String {
    let group = &record.group;
    match &record.what {
        Traced::Sent(it) if it.is_stored => format!(
            "sent by {group}, took {} ms, stored by {} at {}",
            it.took_ms, it.broker, it.place
        ),
        Traced::Sent(it) => format!(
            "sent by {group}, took {} ms, not known to be stored",
            it.took_ms
        ),
        Traced::Begun { attempts, by, .. } => {
            let who = match by.as_str() {
                "" => "a consumer",
                by => by,
            };
            format!("given to {who} of {group}, given {attempts} times before")
        }
        Traced::Ended {
            took_ms,
            is_consumed,
            ..
        } => {
            let how = if *is_consumed {
                "consumed"
            } else {
                "not consumed"
            };
            format!("{how} by {group}, took {took_ms} ms")
        }
        Traced::TransactionEnded(it) => {
            let how = match it.end {
                TransactionEnd::Commit => "committed",
                TransactionEnd::RollBack => "rolled back",
            };
            let when = if it.is_answer {
                ", which was asked"
            } else {
                ""
            };
            format!("its transaction {} {how} by {group}{when}", it.handle)
        }
    }
}

#[derive(Serialize)]
struct Written {
    at: u64,
    what: String,
}

#[derive(Serialize)]
struct Document {
    id: String,
    topic: String,
    broker: String,
    queue: u32,
    offset: u64,
    handle: String,
    state: String,
    born_at: u64,
    stored_at: u64,
    /// Handle of the record it waited as.
    waited_as: Option<String>,
    waited_until: Option<u64>,
    /// How its transaction ended.
    ended: Option<String>,
    sent_again: Vec<String>,
    groups: Vec<Group>,
    written: Vec<Written>,
}

#[derive(Serialize)]
struct Group {
    group: String,
    filter: Option<String>,
    opinions: Vec<OpinionRow>,
    committed: Option<u64>,
    consumed: bool,
    owner: Option<String>,
    hidden_until: Option<u64>,
    popped_times: Option<u16>,
    copies: Vec<Copy>,
}

#[derive(Serialize)]
struct OpinionRow {
    plugin: String,
    sha256: String,
    role: &'static str,
    from: Option<u64>,
    until: Option<u64>,
    said: String,
}

#[derive(Serialize)]
struct Copy {
    topic: String,
    offset: u64,
    handle: String,
    dead_letter: bool,
    consumed: bool,
    attempts: u16,
    stored_at: u64,
    due_at: Option<u64>,
    reason: String,
}

impl Document {
    fn new(trace: &MessageTrace, records: &[TraceRecord]) -> Self {
        let written = records.iter().map(|it| Written {
            at: it.at,
            what: told(it),
        });
        let message = &trace.message.message;
        let queue = message.queue();
        let waited = trace.waited.as_ref().map(|it| &it.message);
        Self {
            id: message.message_id().to_owned(),
            topic: queue.topic.to_string(),
            broker: queue.broker.to_string(),
            queue: queue.queue.0,
            offset: message.offset().0,
            handle: message.handle().to_string(),
            state: msg::words(trace.message.state),
            written: written.collect(),
            born_at: message.born_at(),
            stored_at: message.stored_at(),
            waited_as: waited.map(|it| it.handle().to_string()),
            waited_until: waited.and_then(|it| it.due_at()),
            ended: ended(trace),
            sent_again: trace
                .again
                .iter()
                .map(|it| it.message.handle().to_string())
                .collect(),
            groups: trace
                .groups
                .iter()
                .map(|it| Group::new(&trace.message, it))
                .collect(),
        }
    }
}

impl Group {
    fn new(found: &Found, trace: &GroupTrace) -> Self {
        let explained = &trace.explained;
        let hidden = explained.popped.and_then(|it| it.hidden);
        Self {
            group: trace.group.to_string(),
            filter: trace.filter.as_ref().map(ToString::to_string),
            opinions: explained.opinions.iter().map(OpinionRow::new).collect(),
            committed: explained.committed.map(|it| it.0),
            consumed: explained.is_past(found.message.offset()),
            owner: explained.owner.clone(),
            hidden_until: hidden.map(|it| it.until),
            popped_times: hidden.map(|it| it.times),
            copies: trace.copies.iter().map(Copy::new).collect(),
        }
    }
}

impl OpinionRow {
    fn new(opinion: &Opinion) -> Self {
        let (role, from, until) = match opinion.role {
            OpinionRole::Decides => ("decides", None, None),
            OpinionRole::Bound => ("bound", None, None),
            OpinionRole::StoodInFor => ("stood in for", None, None),
            OpinionRole::Compared => ("compared", None, None),
            OpinionRole::Decided { from, until } => ("decided", Some(from), Some(until)),
        };
        Self {
            plugin: opinion.plugin.clone(),
            sha256: opinion.digest.clone(),
            role,
            from,
            until,
            said: said(&opinion.said),
        }
    }
}

impl Copy {
    fn new(copy: &GroupCopy) -> Self {
        let message = &copy.found.message;
        Self {
            topic: message.queue().topic.to_string(),
            offset: message.offset().0,
            handle: message.handle().to_string(),
            dead_letter: copy.is_dead,
            consumed: copy.is_consumed,
            attempts: message.attempts(),
            stored_at: message.stored_at(),
            due_at: match copy.found.state {
                MessageState::Waits { due_at } => Some(due_at),
                _ => None,
            },
            reason: message
                .property(retry::REASON)
                .unwrap_or_default()
                .to_owned(),
        }
    }
}
