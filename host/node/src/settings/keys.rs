//! The table of settings: the command's flags, the papers and what a running node says of itself come from
//! here.

use std::time::Duration;

use quern_protocol::{BrokerName, Durability, MessageType, Permission, limits};
use quern_store::ReadMode;

use super::key::{Act, Draft, Flag, Key, Place, Shorthand, Show};
use super::values::{
    at_least, at_most, delay_levels, directory, flush_disk_type, host_port, hours, ip, listen,
    longest_delay, name_servers, number, only, or_word, segment_size, shown_delay, shown_hours,
    shown_levels, store_read, switch, take_delay, template_cleanup, template_durability,
    template_retention, template_type, unless_word, word,
};
use crate::config::{Config, Identity, Roles};

const HOUR: u64 = 60 * 60;
const DELAY: &str = "a number of ms, or of s, m, h or d with the unit";

/// Flags that stand for several keys.
pub const SHORTHANDS: &[Shorthand] = &[
    Shorthand {
        flag: Flag::new("listen", "QUERN_LISTEN", "ADDR"),
        of: Roles::Broker,
        help: "UDP address of the broker (bindAddress and listenPort)",
        keys: &["bindAddress", "listenPort"],
        expand: listen,
        show: |config| config.listen.to_string(),
    },
    Shorthand {
        flag: Flag::new("namesrv-listen", "QUERN_NAMESRV_LISTEN", "ADDR"),
        of: Roles::NameServer,
        help: "UDP address of the name server (its bindAddress and listenPort)",
        keys: &["bindAddress", "listenPort"],
        expand: listen,
        show: |config| config.namesrv_listen.to_string(),
    },
    Shorthand {
        flag: Flag::switch("dev", None),
        of: Roles::Broker,
        help: "For development: topics are made by the first message sent to them (autoCreateTopicEnable)",
        keys: &["autoCreateTopicEnable"],
        expand: |value| Ok(vec![("autoCreateTopicEnable", switch(value)?.to_string())]),
        show: |_| "false".to_owned(),
    },
];

/// Every setting that acts.
pub const KEYS: &[Key] = &[
    Key::new(
        Roles::Broker,
        "brokerClusterName",
        "The cluster's name",
        "1 to 127 characters, no control characters",
        (|it, value| word(value).map(|name| it.config.cluster = name), |it| it.cluster.clone()),
    )
    .flag(Flag::new("cluster", "QUERN_CLUSTER", "NAME")),
    Key::new(
        Roles::Broker,
        "brokerName",
        "The broker's name, unique in its cluster",
        "1 to 127 of A-Z a-z 0-9 _ - .",
        (
            |it, value| {
                let name = BrokerName::new(value).map_err(|_| "is no such name")?;
                it.config.name = name;
                Ok(())
            },
            |it| it.name.to_string(),
        ),
    )
    .flag(Flag::new("name", "QUERN_BROKER_NAME", "NAME")),
    Key::new(
        Roles::Broker,
        "brokerId",
        "0 is a master",
        "0; there are no replicas yet",
        (|_, value| only(value, "0"), |_| "0".to_owned()),
    ),
    Key::new(
        Roles::Broker,
        "brokerRole",
        "What a broker is to its replicas",
        "ASYNC_MASTER; the others promise a second copy, and there are no replicas yet",
        (|_, value| only(value, "ASYNC_MASTER"), |_| "ASYNC_MASTER".to_owned()),
    ),
    Key::new(
        Roles::Broker,
        "namesrvAddr",
        "Name servers to register with, separated by commas or quoted semicolons; one in the same process is added",
        "HOST:PORT, several separated by ; or ,",
        (name_servers, |it| it.name_servers.join(";")),
    )
    .flag(Flag::new("namesrv", "NAMESRV_ADDR", "ADDR").short('n')),
    Key::new(
        Roles::Broker,
        "bindAddress",
        "The broker listens on this address of the machine",
        "an IP address",
        (
            |it, value| ip(value).map(|ip| it.config.listen.set_ip(ip)),
            |it| it.listen.ip().to_string(),
        ),
    ),
    Key::new(
        Roles::Broker,
        "listenPort",
        "The broker's UDP port",
        "0 to 65535; 0 = any that is free",
        (
            |it, value| number(value).map(|port| it.config.listen.set_port(port)),
            |it| it.listen.port().to_string(),
        ),
    ),
    Key::new(
        Roles::NameServer,
        "bindAddress",
        "The name server listens on this address of the machine",
        "an IP address",
        (
            |it, value| ip(value).map(|ip| it.config.namesrv_listen.set_ip(ip)),
            |it| it.namesrv_listen.ip().to_string(),
        ),
    ),
    Key::new(
        Roles::NameServer,
        "listenPort",
        "The name server's UDP port",
        "0 to 65535; 0 = any that is free",
        (
            |it, value| number(value).map(|port| it.config.namesrv_listen.set_port(port)),
            |it| it.namesrv_listen.port().to_string(),
        ),
    ),
    Key::new(
        Roles::Broker,
        "advertise",
        "Where clients reach the broker, if that is not what it listens on",
        "HOST:PORT",
        (
            |it, value| host_port(value).map(|at| it.config.advertise = Some(at)),
            |it| it.advertise.clone().unwrap_or_default(),
        ),
    )
    .flag(Flag::new("advertise", "QUERN_ADVERTISE", "ADDR")),
    Key::new(
        Roles::Broker,
        "brokerIP1",
        "Where clients reach the broker, at the port it listens on",
        "a host name or an IP address",
        (
            |it, value| word(value).map(|host| it.config.advertise_host = Some(host)),
            |it| it.advertise_host.clone().unwrap_or_default(),
        ),
    ),
    Key::new(
        Roles::Broker,
        "storePathRootDir",
        "Where the broker keeps its data",
        "a directory, which is made if it is not there",
        (
            |it, value| directory(value).map(|dir| it.config.data = dir),
            |it| it.data.display().to_string(),
        ),
    )
    .flag(Flag::new("data", "QUERN_DATA", "DIR")),
    place("storePathCommitLog", |it| below(it, "commitlog"), |it, value| {
        named(it, ("storePathCommitLog", "commitlog"), value)
    }),
    place("storePathConsumeQueue", |it| below(it, "consumequeue"), |it, value| {
        named(it, ("storePathConsumeQueue", "consumequeue"), value)
    })
    .also(&["storePathConsumerQueue"]),
    place("storePathIndex", |it| below(it, "index"), |it, value| {
        named(it, ("storePathIndex", "index"), value)
    }),
    Key::new(
        Roles::Broker,
        "segmentSize",
        "Bytes of a log segment",
        "65536 or more; auto = 1/256 of the file system, 8 to 256 MiB",
        (segment_size, |it| or_word(it.segment_size, "auto")),
    )
    .flag(Flag::new("segment-size", "QUERN_SEGMENT_SIZE", "BYTES")),
    Key::new(
        Roles::Broker,
        "flushDiskType",
        "How safe messages are whose send and topic do not say: on this broker's disk, or in its page cache",
        "SYNC_FLUSH (local), ASYNC_FLUSH (fast)",
        (flush_disk_type, |it| match it.durability {
            Durability::Fast => "ASYNC_FLUSH".to_owned(),
            _ => "SYNC_FLUSH".to_owned(),
        }),
    )
    .flag(Flag::new("durability", "QUERN_DURABILITY", "CLASS")),
    Key::new(
        Roles::Broker,
        "syncFlushTimeout",
        "Milliseconds after which a send that waits for the disk is answered FLUSH_DISK_TIMEOUT",
        "1 to 4294967295",
        (
            |it, value| {
                let ms: u32 = at_least(1, number(value)?)?;
                it.config.flush_timeout = Duration::from_millis(ms.into());
                Ok(())
            },
            |it| it.flush_timeout.as_millis().to_string(),
        ),
    )
    .flag(Flag::new("sync-flush-timeout", "QUERN_SYNC_FLUSH_TIMEOUT", "MS")),
    Key::new(
        Roles::Broker,
        "messageDelayLevel",
        "Delays that messages may name by a number, from 1 on",
        "numbers of ms, s, m, h or d, separated by blanks",
        (delay_levels, |it| shown_levels(&it.delays.levels)),
    )
    .flag(Flag::new("delay-levels", "QUERN_DELAY_LEVELS", "DELAYS")),
    Key::new(
        Roles::Broker,
        "timerMaxDelaySec",
        "No message may be for later than that",
        "a number of seconds, or of ms, s, m, h or d",
        (longest_delay, |it| it.delays.longest.as_secs().to_string()),
    )
    .flag(Flag::new("delay-max", "QUERN_DELAY_MAX", "DELAY")),
    Key::new(
        Roles::Broker,
        "delayedMax",
        "So many messages may wait for their time, and as many for their transaction; each takes about 100 bytes of memory",
        "a number of messages",
        (
            |it, value| number(value).map(|most| it.config.most_delayed = most),
            |it| it.most_delayed.to_string(),
        ),
    )
    .flag(Flag::new("delayed-max", "QUERN_DELAYED_MAX", "COUNT")),
    Key::new(
        Roles::Broker,
        "transactionTimeOut",
        "A producer is asked how its transaction ended after so long",
        DELAY,
        (
            |it, value| take_delay(&mut it.config.transactions.first_check, value),
            |it| it.transactions.first_check.as_millis().to_string(),
        ),
    )
    .flag(Flag::new("tx-timeout", "QUERN_TX_TIMEOUT", "DELAY")),
    Key::new(
        Roles::Broker,
        "transactionCheckInterval",
        "And again after so long, twice as long each time, up to 16 times",
        DELAY,
        (
            |it, value| take_delay(&mut it.config.transactions.check_every, value),
            |it| it.transactions.check_every.as_millis().to_string(),
        ),
    )
    .flag(Flag::new("tx-check-interval", "QUERN_TX_CHECK_INTERVAL", "DELAY")),
    Key::new(
        Roles::Broker,
        "transactionCheckMax",
        "So often; then its message is set aside in TRANS_CHECK_MAX_TIME_TOPIC",
        "1 or more",
        (
            |it, value| {
                it.config.transactions.checks = at_least(1, number(value)?)?;
                Ok(())
            },
            |it| it.transactions.checks.to_string(),
        ),
    )
    .flag(Flag::new("tx-check-max", "QUERN_TX_CHECK_MAX", "COUNT")),
    Key::new(
        Roles::Broker,
        "transactionMaxAge",
        "So is that of one nobody was there to ask about, after so long",
        DELAY,
        (
            |it, value| take_delay(&mut it.config.transactions.longest, value),
            |it| it.transactions.longest.as_millis().to_string(),
        ),
    )
    .flag(Flag::new("tx-max-age", "QUERN_TX_MAX_AGE", "DELAY")),
    Key::new(
        Roles::Broker,
        "pluginProbation",
        "A version of a plugin that has been active for less is quarantined as soon as it fails too often; one that was longer is not asked for a while first",
        DELAY,
        (
            |it, value| take_delay(&mut it.config.plugin_probation, value),
            |it| it.plugin_probation.as_millis().to_string(),
        ),
    )
    .flag(Flag::new("plugin-probation", "QUERN_PLUGIN_PROBATION", "DELAY")),
    Key::new(
        Roles::Broker,
        "tombstoneGrace",
        "In a compacted topic, a message with a key and no body lets the key go, but not before it is so old: whoever reads all within that time hears of it",
        DELAY,
        (
            |it, value| take_delay(&mut it.config.tombstone_grace, value),
            |it| it.tombstone_grace.as_millis().to_string(),
        ),
    )
    .flag(Flag::new("tombstone-grace", "QUERN_TOMBSTONE_GRACE", "DELAY")),
    Key::new(
        Roles::Broker,
        "fileReservedTime",
        "Hours that messages are kept",
        "a number of hours; 0 = for ever",
        (
            |it, value| {
                let hours: u32 = number(value)?;
                let age = Duration::from_secs(u64::from(hours) * HOUR);
                it.config.retention.age = (hours > 0).then_some(age);
                Ok(())
            },
            |it| it.retention.age.map_or(0, |age| age.as_secs() / HOUR).to_string(),
        ),
    )
    .also(&["fileReserverdTime"])
    .flag(Flag::new("file-reserved-time", "QUERN_FILE_RESERVED_TIME", "HOURS")),
    Key::new(
        Roles::Broker,
        "deleteWhen",
        "Hours of the day, UTC, in which expired segments go; at any hour once the disk is three quarters full",
        "00 to 23, several separated by ; or ,",
        (hours, |it| shown_hours(&it.retention)),
    )
    .flag(Flag::new("delete-when", "QUERN_DELETE_WHEN", "HOURS")),
    Key::new(
        Roles::Broker,
        "logMaxBytes",
        "Most bytes of log to keep: beyond, the oldest segments go at once. If compacted topics keep more than half of that, the log becomes twice as large as what they keep",
        "a number of bytes, or unlimited",
        (
            |it, value| {
                it.config.retention.bytes = unless_word(value, "unlimited")?;
                Ok(())
            },
            |it| or_word(it.retention.bytes, "unlimited"),
        ),
    )
    .flag(Flag::new("log-max-bytes", "QUERN_LOG_MAX_BYTES", "BYTES")),
    Key::new(
        Roles::Broker,
        "storeRead",
        "How old messages are read: copied by the kernel, or, while nobody writes to the log, mapped, which ends the process when the disk fails at the wrong moment",
        "pread, mmap",
        (store_read, |it| match it.read_mode {
            ReadMode::Pread => "pread".to_owned(),
            ReadMode::Mmap => "mmap".to_owned(),
        }),
    )
    .flag(Flag::new("store-read", "QUERN_STORE_READ", "HOW")),
    Key::new(
        Roles::Broker,
        "autoCreateTopicEnable",
        "Make topics by the first message sent to them",
        "true, false",
        (
            |it, value| switch(value).map(|on| it.config.auto_create_topics = on),
            |it| it.auto_create_topics.to_string(),
        ),
    )
    .flag(Flag::switch("auto-create-topic-enable", Some("QUERN_AUTO_CREATE_TOPIC_ENABLE"))),
    Key::new(
        Roles::Broker,
        "defaultTopicQueueNums",
        "Queues of a topic that is made by its first message",
        "1 to 1024",
        (
            |it, value| {
                let most = limits::QUEUES_PER_TOPIC;
                it.config.default_queues = at_most(most, at_least(1, number(value)?)?)?;
                Ok(())
            },
            |it| it.default_queues.to_string(),
        ),
    )
    .flag(Flag::new("default-topic-queue-nums", "QUERN_DEFAULT_TOPIC_QUEUE_NUMS", "COUNT")),
    Key::new(
        Roles::Broker,
        "autoCreateTopicType",
        "Messages that a topic takes which is made by its first message",
        "normal, fifo, delay, transaction, priority, mixed",
        (template_type, |it| {
            it.topic_template.messages.map_or("mixed", MessageType::name).to_owned()
        }),
    )
    .flag(Flag::new("auto-create-topic-type", "QUERN_AUTO_CREATE_TOPIC_TYPE", "TYPE")),
    Key::new(
        Roles::Broker,
        "autoCreateTopicDurability",
        "How safe messages are of a topic that is made by its first message, if they do not say",
        "local, fast, or default: as flushDiskType says",
        (template_durability, |it| {
            it.topic_template.durability.map_or("default", Durability::name).to_owned()
        }),
    )
    .flag(Flag::new(
        "auto-create-topic-durability",
        "QUERN_AUTO_CREATE_TOPIC_DURABILITY",
        "CLASS",
    )),
    Key::new(
        Roles::Broker,
        "autoCreateTopicRetention",
        "How long messages are kept of a topic that is made by its first message",
        "a number of ms, s, m, h or d, from 1s to 3660d, or default: as fileReservedTime says",
        (template_retention, |it| {
            let retention = it.topic_template.retention;
            retention.map_or_else(|| "default".to_owned(), |it| shown_delay(&it))
        }),
    )
    .flag(Flag::new(
        "auto-create-topic-retention",
        "QUERN_AUTO_CREATE_TOPIC_RETENTION",
        "DELAY",
    )),
    Key::new(
        Roles::Broker,
        "autoCreateTopicCleanup",
        "What becomes in time of messages of a topic that is made by its first message",
        "delete, compact (DELETE, COMPACTION); compact only where autoCreateTopicRetention says nothing",
        (template_cleanup, |it| it.topic_template.cleanup.to_string()),
    )
    .flag(Flag::new("auto-create-topic-cleanup", "QUERN_AUTO_CREATE_TOPIC_CLEANUP", "POLICY")),
    Key::new(
        Roles::Broker,
        "autoCreateSubscriptionGroup",
        "Let a group exist as soon as somebody consumes for it; otherwise it has to be made: quern group set NAME",
        "true, false",
        (
            |it, value| switch(value).map(|on| it.config.auto_create_groups = on),
            |it| it.auto_create_groups.to_string(),
        ),
    )
    .flag(Flag::switch(
        "auto-create-subscription-group",
        Some("QUERN_AUTO_CREATE_SUBSCRIPTION_GROUP"),
    )),
    Key::new(
        Roles::Broker,
        "brokerPermission",
        "What clients may do with all topics of this broker, besides what each topic allows",
        "6 (rw), 4 (r), 2 (w), 0 (none)",
        (
            |it, value| {
                let permission: Permission = value.parse().map_err(|_| "names no permission")?;
                it.config.permission = permission;
                Ok(())
            },
            |it| {
                let all = Permission::ALL.iter();
                let of = all.filter(|(permission, ..)| *permission == it.permission);
                of.map(|(.., number)| *number).collect()
            },
        ),
    )
    .flag(Flag::new("broker-permission", "QUERN_BROKER_PERMISSION", "PERM")),
    Key::new(
        Roles::Broker,
        "maxMessageSize",
        "Largest body of a message, bytes",
        "1 to 4194304",
        (
            |it, value| {
                let most = limits::MESSAGE_BODY;
                it.config.max_message_size = at_most(most, at_least(1, number(value)?)?)?;
                Ok(())
            },
            |it| it.max_message_size.to_string(),
        ),
    )
    .flag(Flag::new("max-message-size", "QUERN_MAX_MESSAGE_SIZE", "BYTES")),
    replicas("totalReplicas", |_, value| only(value, "1")),
    replicas("inSyncReplicas", |_, value| only(value, "1")),
    replicas("minInSyncReplicas", |_, value| only(value, "1")),
    off("enableDLegerCommitLog", "A log kept by DLedger", |_, value| only(value, "false")),
    off("enableControllerMode", "Masters elected by a controller", |_, value| only(value, "false")),
    off("aclEnable", "Access control", |_, value| only(value, "false")),
    off("authenticationEnabled", "Users who prove who they are", |_, value| only(value, "false")),
    off("authorizationEnabled", "Users who may do some things only", |_, value| only(value, "false")),
    Key::new(
        Roles::Both,
        "tlsDir",
        "node.pem, node.key and ca.pem, instead of the development CA",
        "a directory",
        (
            |it, value| directory(value).map(|dir| it.config.identity = Identity::Files(dir)),
            |it| match &it.identity {
                Identity::Files(dir) => dir.display().to_string(),
                Identity::Development { .. } => String::new(),
            },
        ),
    )
    .flag(Flag::new("tls-dir", "QUERN_TLS_DIR", "DIR")),
    Key::new(
        Roles::Both,
        "allowDevCa",
        "Let the development CA serve other machines",
        "true, false",
        (
            |it, value| {
                let allow_remote = switch(value)?;
                if let Identity::Development { .. } = it.config.identity {
                    it.config.identity = Identity::Development { allow_remote };
                }
                Ok(())
            },
            |it| (it.identity == Identity::Development { allow_remote: true }).to_string(),
        ),
    )
    .flag(Flag::switch("allow-dev-ca", Some("QUERN_ALLOW_DEV_CA"))),
];

/// A directory that cannot be elsewhere than below the data directory.
const fn place(name: &'static str, show: Show, act: Act) -> Key {
    Key::new(
        Roles::Broker,
        name,
        "Where a part of the data is",
        "what it is below storePathRootDir; to have it on another disk, mount that there",
        (act, show),
    )
}

/// Something that is promised only if it is kept: copies of messages.
const fn replicas(name: &'static str, act: Act) -> Key {
    Key::new(
        Roles::Broker,
        name,
        "Copies of a message",
        "1; there are no replicas yet",
        (act, |_| "1".to_owned()),
    )
}

/// Something that is promised only if it is kept, and is not there.
const fn off(name: &'static str, help: &'static str, act: Act) -> Key {
    Key::new(
        Roles::Broker,
        name,
        help,
        "false; it is not there yet, and who asks for it must not run without it",
        (act, |_| "false".to_owned()),
    )
}

fn below(config: &Config, part: &str) -> String {
    config.data.join(part).display().to_string()
}

fn named(
    draft: &mut Draft,
    (key, below): (&'static str, &'static str),
    value: &str,
) -> Result<(), String> {
    let given = directory(value)?;
    draft.places.retain(|it| it.key != key);
    draft.places.push(Place { key, given, below });
    Ok(())
}
