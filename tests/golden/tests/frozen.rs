//! Compares what is encoded today with what was frozen. See the crate's page for how to add.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use quern_protocol::block::Pairs;
use quern_protocol::frame::{Frame, Outgoing, Prefix};
use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{
    Block, BrokerEntry, BrokerName, BrokerRoute, Brokers, BrokersReply, Cancel, Code,
    CommitOffsets, CommitOffsetsReply, CreateTopic, CreateTopicReply, DeleteTopic,
    DeleteTopicReply, DescribeTopic, DescribeTopicReply, Durability, Epoch, Extensions, Filter,
    GroupName, Heartbeat, HeartbeatReply, Hello, HelloReply, Kind, Lease, ListTopics,
    ListTopicsReply, LogPosition, Message, MessageType, OffsetAt, OffsetAtReply, OffsetRange,
    OffsetRangeReply, Operation, Origin, Permission, PluginReport, ProducerId, ProducerStamp,
    PublishTopics, PublishTopicsReply, Pull, PullReply, QueryOffsets, QueryOffsetsReply, QueueId,
    QueueOffset, QueuePosition, QueueReport, RecordHeader, RecordKind, RegisterBroker,
    RegisterBrokerReply, Request, Role, Route, RouteReply, Send, SetTopic, SetTopicReply, Stall,
    Status, StatusReply, TopicId, TopicName, TopicQueues, TopicSetting, TopicSettings,
    TopicSettingsReply, TopicSummary, WireError,
};

#[path = "frozen/config.rs"]
mod config;
#[path = "frozen/contract_in_c.rs"]
mod contract_in_c;
#[path = "frozen/delay.rs"]
mod delay;
#[path = "frozen/explain.rs"]
mod explain;
#[path = "frozen/find.rs"]
mod find;
#[path = "frozen/groups.rs"]
mod groups;
#[path = "frozen/plugins.rs"]
mod plugins;
#[path = "frozen/pops.rs"]
mod pops;
#[path = "frozen/replies.rs"]
mod replies;
#[path = "frozen/retries.rs"]
mod retries;
#[path = "frozen/sending.rs"]
mod sending;
#[path = "frozen/subscribing.rs"]
mod subscribing;
#[path = "frozen/topics.rs"]
mod topics;
#[path = "frozen/transactions.rs"]
mod transactions;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Lines of `name TAB value` against today's values.
fn check(file: &str, today: &[(String, String)]) {
    let path = here(file);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let frozen: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let mut new = String::new();
    for (name, value) in today {
        match frozen.get(name.as_str()) {
            Some(frozen) => assert_eq!(
                frozen, value,
                "{file}: {name} is frozen. Add a version instead of changing it"
            ),
            None => new += &format!("{name}\t{value}\n"),
        }
    }
    for name in frozen.keys() {
        assert!(
            today.iter().any(|(known, _)| known == name),
            "{file}: {name} is frozen and no longer written"
        );
    }
    if new.is_empty() {
        return;
    }
    assert!(
        std::env::var_os("QUERN_GOLDEN").is_some_and(|it| it == "write"),
        "{file} lacks these; add them with QUERN_GOLDEN=write:\n{new}"
    );
    fs::write(&path, text + &new).unwrap();
}

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn group() -> GroupName {
    GroupName::new("billing").unwrap()
}

fn broker() -> BrokerName {
    BrokerName::new("broker-a").unwrap()
}

fn block() -> Vec<u8> {
    let message = Message::new("orders", "{\"sku\":\"A7\"}");
    let message = message.tag("paid").key("order-42").prop("region", "eu");
    let block = message.encode("0A0B0C", 1_700_000_000_000);
    block.unwrap().to_vec()
}

fn record(extensions: Extensions, notes: &[u8]) -> Vec<u8> {
    let block = block();
    let header = RecordHeader {
        extensions,
        len: (RECORD_HEADER + extensions.size() + block.len()) as u32,
        block_crc: Block::parse(&block).unwrap().crc(),
        position: LogPosition(4_160),
        queue_offset: QueueOffset(3),
        stored_at: 1_700_000_000_001,
        topic: TopicId(1),
        queue: QueueId(2),
        epoch: Epoch(1),
        kind: RecordKind::Message,
        attempts: 0,
    };
    let mut record = Vec::new();
    header.encode(notes, &mut record);
    record.extend_from_slice(&block);
    record
}

struct Samples(Vec<(String, String)>, Vec<Kind>);

impl Samples {
    fn add<O: Operation>(&mut self, request: &O, reply: &O::Reply) {
        self.request(request, "request");
        self.reply::<O>(reply, "reply");
        self.1.push(O::KIND);
    }

    /// Named by the version it goes out in.
    fn request<O: Operation>(&mut self, request: &O, what: &str) {
        let frame = Outgoing::request(request, Vec::new()).unwrap();
        let frame = frame.correlation(7).deadline_ms(3_000).to_vec();
        self.line::<O>(request.version(), what, &frame);
    }

    fn reply<O: Operation>(&mut self, reply: &O::Reply, what: &str) {
        let frame = Outgoing::reply::<O>(reply, Vec::new()).unwrap();
        self.line::<O>(1, what, &frame.correlation(7).to_vec());
    }

    fn line<O: Operation>(&mut self, version: u8, what: &str, bytes: &[u8]) {
        let name = O::KIND.name();
        self.0
            .push((format!("{name} {version} {what}"), hex(bytes)));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one sample after the other")]
fn the_wire_is_as_it_was() {
    let mut all = Samples(Vec::new(), Vec::new());
    let (queue, offset, position) = (QueueId(2), QueueOffset(300), LogPosition(1 << 33));
    let queues = TopicQueues {
        topic: topic(),
        read_queues: 8,
        write_queues: 4,
    };
    let hello = Hello {
        role: Role::Client,
        software: "quern/0.1.0".to_owned(),
        minor_min: 0,
        minor_max: 0,
        features: 0,
    };
    let hello_reply = HelloReply {
        role: Role::Broker,
        software: "quern/0.1.0".to_owned(),
        minor: 0,
        features: 0,
        node: "broker-a".to_owned(),
        time_ms: 1_700_000_000_000,
    };
    all.add(&hello, &hello_reply);
    let beat = HeartbeatReply {
        registered: true,
        time_ms: 5,
    };
    all.add(
        &Heartbeat {
            broker: Some(broker()),
        },
        &beat,
    );
    all.add(&Cancel { correlation: 9 }, &Cancel { correlation: 9 });
    let register = RegisterBroker {
        cluster: "DefaultCluster".to_owned(),
        broker: broker(),
        address: "127.0.0.1:10911".to_owned(),
        epoch: Epoch(3),
        boot: 77,
        auto_create_queues: Some(8),
        topics: vec![queues.clone()],
        being_deleted: Vec::new(),
    };
    all.add(
        &register,
        &RegisterBrokerReply {
            expires_after_ms: 10_000,
        },
    );
    let publish = PublishTopics {
        broker: broker(),
        topics: vec![queues],
        deleted: vec![topic()],
        being_deleted: Vec::new(),
    };
    all.add(&publish, &PublishTopicsReply { registered: true });
    topics::registration(&mut all, register, publish);
    let route = BrokerRoute {
        cluster: "DefaultCluster".to_owned(),
        broker: broker(),
        address: "127.0.0.1:10911".to_owned(),
        read_queues: 8,
        write_queues: 4,
        epoch: Epoch(3),
    };
    all.add(
        &Route {
            topic: topic(),
            to_produce: true,
        },
        &RouteReply {
            brokers: vec![route],
        },
    );
    let entry = BrokerEntry {
        cluster: "DefaultCluster".to_owned(),
        broker: broker(),
        address: "127.0.0.1:10911".to_owned(),
        epoch: Epoch(3),
        topics: 12,
        silent_ms: 400,
    };
    all.add(
        &Brokers {},
        &BrokersReply {
            brokers: vec![entry],
        },
    );
    let create = CreateTopic {
        write_queues: 4,
        ..CreateTopic::new(topic(), 8)
    };
    all.add(&create, &CreateTopicReply { id: TopicId(1) });
    let settings = vec![
        TopicSetting::Durability(Some(Durability::Fast)),
        TopicSetting::Durability(None),
        TopicSetting::ReadQueues(8),
        TopicSetting::WriteQueues(300),
    ];
    let create = CreateTopic {
        settings: settings.clone(),
        ..create
    };
    all.request(&create, "request");
    let described = DescribeTopicReply {
        id: TopicId(1),
        read_queues: 8,
        write_queues: 4,
        created_at: 1_700_000_000_000,
        queues: vec![QueueReport {
            queue,
            min: QueueOffset(0),
            max: offset,
        }],
    };
    all.add(&DescribeTopic { topic: topic() }, &described);
    let summary = TopicSummary {
        topic: topic(),
        id: TopicId(1),
        read_queues: 8,
        write_queues: 4,
        messages: 300,
    };
    all.add(
        &ListTopics {},
        &ListTopicsReply {
            topics: vec![summary],
        },
    );
    all.add(
        &DeleteTopic {
            topic: topic(),
            grace_ms: 0,
        },
        &DeleteTopicReply { messages: 300 },
    );
    all.add(
        &SetTopic {
            topic: topic(),
            settings: settings.clone(),
        },
        &SetTopicReply {
            settings: settings.clone(),
        },
    );
    all.add(
        &TopicSettings { topic: topic() },
        &TopicSettingsReply { settings },
    );
    topics::deletion(&mut all);
    topics::compaction(&mut all);
    topics::group_switches(&mut all);
    let settings = vec![
        TopicSetting::Permission(Permission::Read),
        TopicSetting::Messages(Some(MessageType::Fifo)),
        TopicSetting::Messages(None),
    ];
    let rules = SetTopic {
        topic: topic(),
        settings,
    };
    all.request(&rules, "request rules");
    sending::send(&mut all);
    let pull = Pull {
        broadcast: false,
        group: Some(group()),
        topic: topic(),
        queue,
        from: offset,
        max_messages: 32,
        max_bytes: 1 << 20,
        wait_ms: 15_000,
        filter: Filter::tag("paid || refunded"),
    };
    let stall = Stall {
        offset,
        code: 4301,
        message: "plugin tag 0.1.0: stopped".to_owned(),
        retry_ms: 1_000,
    };
    let pulled = PullReply {
        messages: 1,
        next: offset,
        min: QueueOffset(0),
        max: offset,
        moved: false,
        stall: Some(stall),
    };
    all.add(&pull, &pulled);
    sending::selected(&mut all);
    delay::delays(&mut all);
    transactions::transactions(&mut all);
    pops::pops(&mut all);
    let at = vec![QueuePosition { queue, offset }];
    let commit = CommitOffsets {
        group: group(),
        topic: topic(),
        offsets: at.clone(),
        leases: Vec::new(),
    };
    all.add(&commit, &CommitOffsetsReply {});
    let lease = Lease {
        queue,
        epoch: 1_700_000_000_000,
    };
    let commit = CommitOffsets {
        leases: vec![lease],
        ..commit
    };
    all.request(&commit, "request");
    let query = QueryOffsets {
        group: group(),
        topic: topic(),
    };
    all.add(&query, &QueryOffsetsReply { offsets: at });
    all.add(
        &OffsetRange {
            topic: topic(),
            queue,
        },
        &OffsetRangeReply {
            min: QueueOffset(0),
            max: offset,
        },
    );
    all.add(
        &OffsetAt {
            topic: topic(),
            queue,
            stored_at: 1_700_000_000_000,
        },
        &OffsetAtReply { offset },
    );
    pops::hides(&mut all);
    find::finding(&mut all);
    explain::explaining(&mut all);
    let plugin = PluginReport {
        name: "tag".to_owned(),
        version: "0.1.0".to_owned(),
        digest: "00ff".to_owned(),
        calls: 1,
        messages: 64,
        faults: 0,
        fuel: 12_800,
    };
    let status = StatusReply {
        broker: broker(),
        cluster: "DefaultCluster".to_owned(),
        epoch: Epoch(3),
        started_at: 1,
        time_ms: 2,
        durable: position,
        data_dir: "quern-data".to_owned(),
        topics: 1,
        connections: 2,
        messages_in: 3,
        messages_out: 4,
        messages_skipped: 5,
        cpu_us: 6,
        rss_bytes: 7,
        plugins: vec![plugin],
    };
    all.add(&Status {}, &status);
    subscribing::subscribing(&mut all, &pull, &pulled);
    plugins::plugins(&mut all, &pull);
    groups::groups(&mut all, lease);
    replies::replies(&mut all);
    retries::retries(&mut all);
    transactions::figures(&mut all);
    config::config(&mut all);
    plugins::replays(&mut all);
    config::confirming(&mut all);
    groups::questions(&mut all);
    assert_eq!(all.1, Kind::ALL, "every operation has a sample");

    let error = WireError::new(Code::NO_ROUTE, "topic \"orders\" has no route").after_ms(100);
    let error = Outgoing::error(Kind::Route as u16, &error).correlation(7);
    all.0.push(("error".to_owned(), hex(&error.to_vec())));
    all.0.push(("block".to_owned(), hex(&block())));
    let plain = record(Extensions::default(), &[]);
    all.0.push(("record".to_owned(), hex(&plain)));
    let notes = Pairs::encode([("reason", "why")]);
    let extensions = Extensions {
        producer: Some(ProducerStamp {
            id: ProducerId(7),
            epoch: 1,
            sequence: 5,
            to_follow: 2,
        }),
        origin: Some(Origin {
            due_at: 1_700_000_060_000,
            root: LogPosition(4_160),
        }),
        carried: true,
        notes_len: notes.len() as u16,
    };
    let full = record(extensions, &notes);
    all.0
        .push(("record with extensions".to_owned(), hex(&full)));
    check("wire/v1.tsv", &all.0);
}

/// What an older release says is understood for ever, and means what it meant.
#[test]
fn every_frozen_request_is_understood() {
    let text = fs::read_to_string(here("wire/v1.tsv")).unwrap();
    let mut plain_sends = 0;
    for (name, value) in text.lines().filter_map(|line| line.split_once('\t')) {
        if !name.contains("request") {
            continue;
        }
        let digits = value.as_bytes().chunks(2);
        let bytes: Vec<u8> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let (prefix, rest) = bytes.split_first_chunk().unwrap();
        let prefix = Prefix::decode(prefix).unwrap();
        let (header, body) = rest.split_at(prefix.header_len);
        let frame = Frame {
            kind: prefix.kind,
            is_reply: prefix.is_reply,
            version: prefix.version,
            flags: prefix.flags,
            correlation: prefix.correlation,
            deadline_ms: prefix.deadline_ms,
            header: header.to_vec().into(),
            body: body.to_vec().into(),
        };
        let request = Request::decode(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(name.starts_with(request.kind().name()), "{name}");
        if name == "Send 1 request" {
            let send = Send::new(topic(), QueueId(2), 64);
            assert_eq!(request, Request::Send(send));
            plain_sends += 1;
        }
    }
    assert_eq!(plain_sends, 1);
}

#[test]
fn error_codes_keep_their_meaning() {
    let line = |code: &Code| {
        let number = format!("Q-{}", code.number);
        (number, format!("{}\t{:?}", code.name, code.retry))
    };
    let today: Vec<_> = Code::ALL.iter().map(line).collect();
    check("codes.tsv", &today);
}

/// Types and functions are frozen, comments are not: both sides are printed without them.
#[test]
fn the_plugin_contract_is_as_published() {
    use wit_component::{OutputToString, WitPrinter, decode, encode};
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(here("../../wit")).unwrap();
    let name = resolve.packages[package].name.clone();
    let version = name.version.as_ref().expect("a contract has a version");
    let frozen = here(&format!("wit/{version}.wasm"));
    if !frozen.exists() {
        let writing = std::env::var_os("QUERN_GOLDEN").is_some_and(|it| it == "write");
        assert!(
            writing,
            "{name} is not frozen; freeze it with QUERN_GOLDEN=write"
        );
        fs::write(&frozen, encode(&resolve, package).unwrap()).unwrap();
    }
    let print = |resolve: &wit_parser::Resolve, package| {
        let mut printer = WitPrinter::<OutputToString>::default();
        printer.emit_docs(false);
        printer.print(resolve, package, &[]).unwrap();
        String::from(printer.output)
    };
    let decoded = decode(&fs::read(&frozen).unwrap()).unwrap();
    assert!(
        print(&resolve, package) == print(decoded.resolve(), decoded.package()),
        "{name} is published; wit/PENDING.md says how to change it"
    );
}
