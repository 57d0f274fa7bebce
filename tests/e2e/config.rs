//! A node that is configured: by a file, the environment and arguments, and what it says of itself.

use anyhow::{Context as _, Result};
use quern_harness::{World, free_port, wait_until};

use crate::{QUERN, world_with_node};

/// Files of a broker and of a name server on these ports.
fn files(world: &World, namesrv: u16, broker: u16) -> Result<()> {
    let stock = format!(
        "# A stock file, nearly.\nbrokerClusterName = eu\nbrokerName = from-file\n\
         listenPort = {broker}\nbrokerId=0\nbrokerRole=ASYNC_MASTER\n\
         storePathRootDir = data\nstorePathCommitLog = data/commitlog\n\
         deleteWhen = 04;16\nfileReservedTime = 48\nflushDiskType = ASYNC_FLUSH\n\
         namesrvAddr = localhost:{namesrv}\nautoCreateTopicEnable = true\n\
         sendMessageThreadPoolNums = 16\n"
    );
    std::fs::write(world.path("broker.conf"), stock)?;
    let stock = format!("listenPort = {namesrv}\nclusterTest = false\n");
    Ok(std::fs::write(world.path("namesrv.properties"), stock)?)
}

/// A node of files and arguments, each with a say; and what the running node answers.
#[test]
fn files_and_arguments_act_in_their_order_and_are_told() -> Result<()> {
    let world = World::new(QUERN)?;
    let (namesrv, broker) = (free_port()?, free_port()?);
    files(&world, namesrv, broker)?;
    let args = [
        "start",
        "-c",
        "broker.conf",
        "--namesrv-config",
        "namesrv.properties",
        "--file-reserved-time",
        "24",
        "--segment-size",
        "8388608",
        "--auto-create-topic-enable=false",
    ];
    let process = world.start(&args, "Ctrl-C drains")?;
    let said = process.said();
    assert!(
        said.contains("broker.conf:14: sendMessageThreadPoolNums has no effect"),
        "{said}"
    );
    assert!(said.contains("namesrv.properties:2: clusterTest"), "{said}");
    let (at, broker) = (
        format!("127.0.0.1:{namesrv}"),
        format!("127.0.0.1:{broker}"),
    );
    wait_until("the broker to be registered", || {
        let created = world.run(&["topic", "create", "t", "--namesrv", &at])?;
        Ok(created.status.success())
    })?;
    let shown = world.ok(&["config", "show", "--of", "from-file", "--namesrv", &at])?;
    for (key, value, from) in [
        ("brokerClusterName", "eu", "broker.conf:2"),
        ("flushDiskType", "ASYNC_FLUSH", "broker.conf:11"),
        ("deleteWhen", "04;16", "broker.conf:9"),
        ("fileReservedTime", "24", "--file-reserved-time"),
        (
            "autoCreateTopicEnable",
            "false",
            "--auto-create-topic-enable",
        ),
        ("maxMessageSize", "4194304", "default"),
        ("sendMessageThreadPoolNums", "16", "broker.conf:14"),
    ] {
        let mut lines = shown.lines();
        let line = lines.find(|line| line.split_whitespace().nth(1) == Some(key));
        let line = line.with_context(|| format!("no {key} in {shown}"))?;
        let cells: Vec<_> = line.split_whitespace().skip(2).take(2).collect();
        assert_eq!(cells, [value, from], "{key}");
    }
    // RocketMQ's own commands print the same, as scripts know it.
    let got = world.ok(&["mqadmin", "getBrokerConfig", "-b", &broker, "-n", &at])?;
    assert!(
        got.starts_with(&format!("============{broker}============\n")),
        "{got}"
    );
    let line = format!("{:<50}=  eu", "brokerClusterName");
    assert!(got.lines().any(|it| it == line), "{got}");
    let got = world.ok(&["mqadmin", "getNamesrvConfig", "-n", &at])?;
    let line = format!("{:<50}=  {namesrv}", "listenPort");
    assert!(got.lines().any(|it| it == line), "{got}");
    assert_eq!(process.terminate()?, Some(0));
    Ok(())
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start_and_is_told_whole() -> Result<()> {
    let world = World::new(QUERN)?;
    std::fs::write(
        world.path("broker.conf"),
        "brokerName = a\nbrokerRole = SYNC_MASTER\nfileReservdTime = 1\n",
    )?;
    let text = world.fails(&["start", "-c", "broker.conf"], 2, "Q-1012")?;
    assert!(text.contains("broker.conf:2: brokerRole"), "{text}");
    assert!(text.contains("did you mean fileReservedTime?"), "{text}");
    assert!(!world.path("quern-data").exists(), "nothing was started");
    world.fails(&["start", "-c", "none.conf"], 2, "Q-1012")?;
    world.fails(&["start", "--listen", "nowhere"], 2, "Q-1012")?;
    world.fails(&["config", "check", "broker.conf"], 2, "Q-1012")?;
    std::fs::write(world.path("good.conf"), "brokerName = a\n")?;
    let said = world.ok(&["config", "check", "good.conf"])?;
    assert!(said.contains("good.conf:1"), "{said}");
    Ok(())
}

/// What a broker allows, besides what topics allow, with the cure in the text.
#[test]
fn limits_and_permissions_of_a_broker_are_kept() -> Result<()> {
    let more = [
        "--max-message-size",
        "10",
        "--auto-create-subscription-group=false",
    ];
    let (world, mut node) = world_with_node(&more)?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    let fails =
        |args: &[&str], exit, code| world.fails(&[args, &["--namesrv", &at]].concat(), exit, code);
    quern(&["topic", "create", "t"])?;
    quern(&["produce", "t", "0123456789"])?;
    let text = fails(&["produce", "t", "0123456789a"], 2, "Q-1002")?;
    assert!(text.contains("maxMessageSize"), "{text}");
    // Groups have to be made.
    for group in [
        &["consume", "t", "--group", "g"][..],
        &["group", "reset", "g", "t", "--to", "first"],
    ] {
        let text = fails(group, 3, "Q-2011")?;
        assert!(text.contains("quern group create g"), "{text}");
    }
    quern(&["group", "create", "g"])?;
    assert_eq!(
        quern(&["consume", "t", "--group", "g", "--format", "%v"])?,
        "0123456789"
    );
    // One may be closed for a while.
    quern(&["produce", "t", "more"])?;
    quern(&["group", "set", "g", "--consume", "off"])?;
    let text = fails(&["consume", "t", "--group", "g"], 5, "Q-2012")?;
    assert!(text.contains("quern group set g --consume on"), "{text}");
    quern(&["group", "set", "g", "--consume", "on"])?;
    assert_eq!(
        quern(&["consume", "t", "--group", "g", "--format", "%v"])?,
        "more"
    );
    // The whole broker only for those who read.
    node.stop()?;
    node.start(&world, &["--broker-permission", "4"])?;
    let text = fails(&["produce", "t", "x"], 5, "Q-2010")?;
    assert!(text.contains("brokerPermission is r"), "{text}");
    assert_eq!(
        quern(&["consume", "t", "--format", "%v,"])?
            .matches(',')
            .count(),
        2
    );
    Ok(())
}
