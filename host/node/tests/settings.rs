//! Settings as files give them: what acts, what is ignored, what is refused, and that papers say so.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use quern_node::settings::{self, Given, KEYS, SHORTHANDS};
use quern_node::{Config, Identity, ReadMode, Roles, TopicTemplate, Transactions};
use quern_protocol::{Cleanup, ConfigOrigin, Durability, MessageType, Permission};

fn file(text: &str, of: Roles) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker.conf");
    std::fs::write(&path, text).unwrap();
    let shorten = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    let given = settings::read(&path, of).map_err(|bad| vec![shorten(bad.to_string())])?;
    settings::resolve(of, given)
        .map_err(|bad| bad.iter().map(|it| shorten(it.to_string())).collect())
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Every key of a broker.
const EVERY_KEY: &str = "brokerClusterName = c\nbrokerName = b\nbrokerId = 0\nbrokerRole = ASYNC_MASTER\n\
    namesrvAddr = n1:9876;n2:9876\nbindAddress = ::1\nlistenPort = 1\nadvertise = h:2\n\
    brokerIP1 = h\nstorePathRootDir = /d\nstorePathCommitLog = /d/commitlog/\n\
    storePathConsumerQueue = /d/consumequeue\nstorePathIndex = /d/index\n\
    segmentSize = 65536\nflushDiskType = ASYNC_FLUSH\nsyncFlushTimeout = 9\n\
    messageDelayLevel = 1s 2m\ntimerMaxDelaySec = 7\ndelayedMax = 6\n\
    transactionTimeOut = 2s\ntransactionCheckInterval = 500\n\
    transactionCheckMax = 4\ntransactionMaxAge = 1d\npluginProbation = 90s\ntombstoneGrace = 3h\n\
    fileReserverdTime = 48\ndeleteWhen = 04;16\nlogMaxBytes = 5\nstoreRead = mmap\n\
    autoCreateTopicEnable = true\ndefaultTopicQueueNums = 3\n\
    autoCreateTopicType = fifo\nautoCreateTopicDurability = fast\n\
    autoCreateTopicRetention = 2d\nautoCreateTopicCleanup = delete\n\
    autoCreateSubscriptionGroup = false\nbrokerPermission = 4\nmaxMessageSize = 7\n\
    totalReplicas = 1\ninSyncReplicas = 1\nminInSyncReplicas = 1\n\
    enableDLegerCommitLog = false\nenableControllerMode = false\naclEnable = false\n\
    authenticationEnabled = false\nauthorizationEnabled = false\ntlsDir = /t\n\
    allowDevCa = true\n";

#[test]
fn every_key_of_a_broker_acts() {
    let text = EVERY_KEY;
    let config = file(text, Roles::Broker).unwrap();
    assert_eq!((config.cluster.as_str(), config.name.as_str()), ("c", "b"));
    assert_eq!(config.name_servers, ["n1:9876", "n2:9876"]);
    assert_eq!(config.listen.to_string(), "[::1]:1");
    assert_eq!(config.advertise.as_deref(), Some("h:2"));
    assert_eq!(config.advertise_host.as_deref(), Some("h"));
    assert_eq!(config.data, Path::new("/d"));
    assert_eq!(config.segment_size, Some(65_536));
    assert_eq!(config.durability, Durability::Fast);
    assert_eq!(config.flush_timeout, Duration::from_millis(9));
    let levels = [Duration::from_secs(1), Duration::from_secs(120)];
    assert_eq!(config.delays.levels, levels);
    assert_eq!(config.delays.longest, Duration::from_secs(7));
    assert_eq!(config.most_delayed, 6);
    let transactions = Transactions {
        first_check: Duration::from_secs(2),
        check_every: Duration::from_millis(500),
        checks: 4,
        longest: Duration::from_secs(86_400),
    };
    assert_eq!(config.transactions, transactions);
    assert_eq!(config.plugin_probation, Duration::from_secs(90));
    assert_eq!(config.tombstone_grace, Duration::from_secs(3 * 3_600));
    let retention = &config.retention;
    assert_eq!(retention.age, Some(Duration::from_secs(48 * 3_600)));
    assert_eq!(
        (&retention.hours[..], retention.bytes),
        (&[4, 16][..], Some(5))
    );
    assert_eq!(config.read_mode, ReadMode::Mmap);
    assert!(config.auto_create_topics && !config.auto_create_groups);
    assert_eq!((config.default_queues, config.max_message_size), (3, 7));
    let template = TopicTemplate {
        messages: Some(MessageType::Fifo),
        durability: Some(Durability::Fast),
        retention: Some(Duration::from_secs(2 * 86_400)),
        cleanup: Cleanup::Delete,
    };
    assert_eq!(config.topic_template, template);
    assert_eq!(config.permission, Permission::Read);
    assert_eq!(config.identity, Identity::Files("/t".into()));
    // Every key was given, so every key says by which line; and says what it was given.
    let entries = config.entries(Roles::Broker);
    let lines: Vec<&str> = text.lines().collect();
    for entry in &entries {
        let ConfigOrigin::File { line, .. } = entry.origin else {
            panic!("{} is {}", entry.key, entry.origin);
        };
        let line = lines[line as usize - 1];
        // The directories below, and what it was called, may be written otherwise.
        let is_known = line.starts_with(&entry.key[..10.min(entry.key.len())]);
        assert!(is_known, "{} is of {line:?}", entry.key);
    }
    let shown = |key: &str| &entries.iter().find(|it| it.key == key).unwrap().value;
    assert_eq!(shown("deleteWhen"), "04;16");
    assert_eq!(shown("fileReservedTime"), "48");
    assert_eq!(shown("flushDiskType"), "ASYNC_FLUSH");
    assert_eq!(shown("brokerPermission"), "4");
}

#[test]
fn what_is_wrong_is_told_with_line_value_and_what_is_allowed() {
    let cases = [
        (
            "fileReservedTime = two",
            "broker.conf:1: fileReservedTime = \"two\" is no such number; allowed: a number of hours; 0 = for ever",
        ),
        (
            "\nFileReservdTime = 2",
            "broker.conf:2: there is no setting \"FileReservdTime\"; did you mean fileReservedTime?",
        ),
        (
            "waitTimeMillsInSendQue = 2",
            "did you mean waitTimeMillsInSendQueue?",
        ),
        ("xyzzy = 1", "`quern config keys` shows those there are"),
        ("kvConfigPath = /k", "it is a name server's"),
        ("deleteWhen = 24", "too large"),
        ("deleteWhen =", "names no hour"),
        ("listenPort = 65536", "no such number"),
        ("brokerRole = SLAVE", "there are no replicas yet"),
        ("brokerId = 1", "there are no replicas yet"),
        ("aclEnable = true", "must not run without it"),
        ("autoCreateTopicEnable = yes", "allowed: true, false"),
        ("maxMessageSize = 0", "too small"),
        ("namesrvAddr = n1", "no HOST:PORT"),
        ("storePathCommitLog = /elsewhere", "mount that there"),
        ("brokerName = \\u12", "broker.conf:1: \\u12 is no character"),
    ];
    for (text, expected) in cases {
        let bad = file(text, Roles::Broker).unwrap_err();
        assert_eq!(bad.len(), 1, "{text}: {bad:?}");
        assert!(bad[0].contains(expected), "{text}: {}", bad[0]);
    }
    // All at once.
    let bad = file("brokerId = 1\nxyzzy = 1\n", Roles::Broker).unwrap_err();
    assert_eq!(bad.len(), 2, "{bad:?}");
    let none = settings::read(Path::new("/none.conf"), Roles::Broker).unwrap_err();
    assert!(none.to_string().starts_with("/none.conf cannot be read"));
}

#[test]
fn keys_of_rocketmq_without_an_effect_are_accepted_with_a_reason() {
    let config = file("useEpollNativeSelector = true\n", Roles::Broker).unwrap();
    let entries = config.entries(Roles::Broker);
    let ignored = entries.last().unwrap();
    assert_eq!(ignored.key, "useEpollNativeSelector");
    assert_eq!(
        ignored.ignored.as_deref(),
        Some("threads follow the number of cores")
    );
    // Those of the name server's list, and those that act in it.
    let text = "listenPort = 9877\nserverChannelMaxIdleTimeSeconds = 120\n\
        serverCallbackExecutorThreads = 0\nserverAsyncSemaphoreValue = 64\n\
        serverSocketSndBufSize = 0\nrocketmqHome = /r\nclusterTest = false\n\
        serverSelectorThreads = 3\nuseEpollNativeSelector = false\norderMessageEnable = false\n\
        serverPooledByteBufAllocatorEnable = true\nkvConfigPath = /k\nserverWorkerThreads = 8\n\
        serverSocketRcvBufSize = 0\nproductEnvName = center\nserverOneWaySemaphoreValue = 256\n\
        configStorePath = /c\n";
    let config = file(text, Roles::NameServer).unwrap();
    assert_eq!(config.namesrv_listen.port(), 9877);
    let entries = config.entries(Roles::NameServer);
    let ignored = entries.iter().filter(|it| it.ignored.is_some()).count();
    assert_eq!(ignored, text.lines().count() - 1);
}

#[test]
fn what_comes_later_goes_before_and_each_is_named() {
    let given = |key: &str, value: &str, origin| Given {
        of: Roles::Broker,
        key: key.to_owned(),
        value: value.to_owned(),
        origin,
    };
    let environment = ConfigOrigin::Environment("QUERN_BROKER_NAME".to_owned());
    let config = settings::resolve(
        Roles::Both,
        vec![
            given("brokerName", "file", ConfigOrigin::Program),
            given("brokerName", "env", environment.clone()),
        ],
    );
    let config = config.unwrap();
    assert_eq!(config.name.as_str(), "env");
    let entries = config.entries(Roles::Broker);
    let origin = |key: &str| &entries.iter().find(|it| it.key == key).unwrap().origin;
    assert_eq!(origin("brokerName"), &environment);
    assert_eq!(origin("deleteWhen"), &ConfigOrigin::Default);
    // A program that changes the configuration itself is named as well.
    let config = Config {
        default_queues: 2,
        ..config
    };
    let entries = config.entries(Roles::Broker);
    let queues = entries.iter().find(|it| it.key == "defaultTopicQueueNums");
    assert_eq!(queues.unwrap().origin, ConfigOrigin::Program);
}

/// What a setting shows it also accepts, so what a node says of itself can be put into a file.
#[test]
fn every_default_can_be_given() {
    for of in [Roles::Broker, Roles::NameServer] {
        let entries = Config::new(of).entries(of).into_iter();
        let lines = entries.filter(|it| !it.value.is_empty());
        let text: String = lines
            .map(|it| format!("{} = {}\n", it.key, it.value))
            .collect();
        let config = file(&text, of).unwrap();
        let shown = |config: &Config| {
            let entries = config.entries(of).into_iter();
            entries.map(|it| it.value).collect::<Vec<_>>()
        };
        assert_eq!(shown(&config), shown(&Config::new(of)));
    }
}

#[test]
fn flags_are_unique_and_named_as_the_field_does() {
    let flags = KEYS.iter().filter_map(|key| key.flag);
    let flags: Vec<_> = flags.chain(SHORTHANDS.iter().map(|it| it.flag)).collect();
    for (index, flag) in flags.iter().enumerate() {
        let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(flag.long.chars().all(is_word), "{}", flag.long);
        let others = &flags[index + 1..];
        assert!(others.iter().all(|it| it.long != flag.long));
        assert!(
            others
                .iter()
                .all(|it| flag.env.is_none() || it.env != flag.env)
        );
    }
}

#[test]
fn samples_are_read_and_give_what_their_comments_say() {
    for (path, of) in [
        ("deploy/broker.conf", Roles::Broker),
        ("deploy/namesrv.properties", Roles::NameServer),
    ] {
        let sample = std::fs::read_to_string(repository(path)).unwrap();
        file(&sample, of).unwrap();
        // Without the comment, what is commented out is the default, unless it names an example.
        let commented = sample.lines().filter_map(|line| {
            let setting = line.strip_prefix('#')?;
            (!setting.starts_with(' ') && !setting.is_empty()).then_some(setting)
        });
        for setting in commented {
            let dir = "storePathRootDir = /var/lib/quern";
            let text = match of {
                Roles::NameServer => setting.to_owned(),
                _ => format!("{dir}\n{setting}"),
            };
            let config = file(&text, of).unwrap();
            let base = match of {
                Roles::NameServer => Config::new(of),
                _ => file(dir, of).unwrap(),
            };
            let key = setting.split(" = ").next().unwrap();
            let shown = |config: &Config| {
                let entries = config.entries(of).into_iter();
                entries
                    .filter(|it| it.key == key)
                    .map(|it| it.value)
                    .collect::<Vec<_>>()
            };
            let is_example = ["brokerIP1", "advertise", "tlsDir"].contains(&key);
            assert!(is_example || shown(&config) == shown(&base), "{setting}");
        }
    }
}

/// `QUERN_GOLDEN=write` writes the tables anew.
#[test]
fn the_paper_has_the_tables_of_the_code() {
    let path = repository("docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut new = text.clone();
    for (mark, of) in [
        ("broker", Roles::Broker),
        ("name server", Roles::NameServer),
    ] {
        let begin = format!("<!-- {mark} -->\n");
        let (before, rest) = new.split_once(&begin).unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        new = format!("{before}{begin}{}<!-- end -->{after}", settings::tables(of));
    }
    if std::env::var_os("QUERN_GOLDEN").is_some_and(|it| it == "write") {
        std::fs::write(&path, &new).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == new,
        "docs/configuration.md is not what the code says; QUERN_GOLDEN=write writes it"
    );
}
