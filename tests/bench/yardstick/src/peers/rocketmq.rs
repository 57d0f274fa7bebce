//! Apache RocketMQ, name server and broker from Maven Central. Heaps are smaller than its scripts ask for
//! (8 GB), which are for larger machines.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Peer;
use super::java::{Jars, properties};
use crate::place::{Place, Site};
use crate::processes::Server;
use crate::versions;
use crate::work::{Class, Filter, Work};

pub(crate) struct RocketMq;

const DRIVER: &str = include_str!("../../drivers/java/RocketMq.java");

const NAME_SERVER: [&str; 2] = ["-Xms256m", "-Xmx256m"];
const BROKER: [&str; 3] = ["-Xms2g", "-Xmx2g", "-XX:MaxDirectMemorySize=2g"];

impl RocketMq {
    fn jars(&self) -> Result<Jars> {
        let version = versions::of("rocketmq")?;
        let library = |name: &str| ["org.apache.rocketmq", name, version].map(str::to_owned);
        Ok(Jars {
            name: "rocketmq",
            libraries: vec![
                library("rocketmq-namesrv"),
                library("rocketmq-broker"),
                library("rocketmq-client"),
            ],
            driver: ("RocketMq.java", DRIVER),
        })
    }
}

/// For its port, too.
pub(super) fn durability(class: Class) -> &'static str {
    match class {
        Class::Durable => "flushDiskType=SYNC_FLUSH",
        Class::Cached => "flushDiskType=ASYNC_FLUSH",
    }
}

/// A file of settings of a broker, in names that its port to Rust knows, too.
pub(super) fn settings(site: &Site<'_>) -> Result<PathBuf> {
    let ports = &site.ports;
    let store = site.dir.join("data");
    let flush = durability(site.class).split_once('=');
    let broker = [
        ("brokerClusterName", "yardstick".to_owned()),
        ("brokerName", "broker-a".to_owned()),
        ("brokerId", "0".to_owned()),
        ("namesrvAddr", site.at(ports.name_server)),
        ("brokerIP1", site.host.to_owned()),
        ("listenPort", ports.broker.to_string()),
        ("haListenPort", ports.more.to_string()),
        ("storePathRootDir", store.display().to_string()),
        (
            "storePathCommitLog",
            store.join("commitlog").display().to_string(),
        ),
        ("enablePropertyFilter", "true".to_owned()),
        ("flushDiskType", flush.map_or("", |(_, it)| it).to_owned()),
    ];
    properties(site.dir.join("broker.conf"), &broker)
}

impl Peer for RocketMq {
    fn name(&self) -> &'static str {
        "rocketmq"
    }

    fn version(&self) -> Result<String> {
        Ok(versions::of("rocketmq")?.to_owned())
    }

    fn durability(&self, class: Class) -> &'static str {
        durability(class)
    }

    fn can(&self, work: Work) -> bool {
        work != Work::Drain(Filter::Own)
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        // A heartbeat: a frame's length, its header's, a header and a body in JSON.
        let header = r#"{"code":34,"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":401}"#;
        let body = r#"{"clientID":"127.0.0.1@yardstick","consumerDataSet":[],"producerDataSet":[{"groupName":"yardstick"}]}"#;
        let length = 4 + header.len() + body.len();
        let mut frame = (length as u32).to_be_bytes().to_vec();
        frame.extend((header.len() as u32).to_be_bytes());
        frame.extend(header.as_bytes());
        frame.extend(body.as_bytes());
        Some(frame)
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        self.jars()?.prepare(place)
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let jars = self.jars()?;
        let ports = &site.ports;
        let home = site.dir.join("home");
        let names = [("listenPort", ports.name_server.to_string())];
        let names = properties(site.dir.join("namesrv.conf"), &names)?;
        let broker = settings(site)?;
        let mut name_server = jars.java(site.place, &home, &NAME_SERVER)?;
        name_server
            .arg("org.apache.rocketmq.namesrv.NamesrvStartup")
            .arg("-c")
            .arg(names);
        let mut server = jars.java(site.place, &home, &BROKER)?;
        server
            .arg("org.apache.rocketmq.broker.BrokerStartup")
            .arg("-c")
            .arg(broker);
        for command in [&mut name_server, &mut server] {
            command.env("ROCKETMQ_HOME", &home);
        }
        Ok(vec![
            Server {
                name: "namesrv",
                command: name_server,
                opens: Some(site.at(ports.name_server)),
            },
            Server {
                name: "broker",
                command: server,
                opens: None,
            },
        ])
    }

    fn driver(&self, site: &Site<'_>) -> Result<Command> {
        let home = site.dir.join("driver-home");
        let mut command = self.jars()?.java(site.place, &home, &["-Xmx1g"])?;
        command.args(["RocketMq", &site.at(site.ports.name_server)]);
        Ok(command)
    }
}
