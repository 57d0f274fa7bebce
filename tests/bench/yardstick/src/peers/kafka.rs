//! Apache Kafka from Maven Central, broker and controller in one process (KRaft). It has no filters.

use std::process::Command;

use anyhow::Result;

use super::Peer;
use super::java::{Jars, properties};
use crate::place::{Place, Site, make};
use crate::processes::Server;
use crate::versions;
use crate::work::{Class, Filter, Work};

pub(crate) struct Kafka;

const DRIVER: &str = include_str!("../../drivers/java/Kafka.java");
/// Any 16 bytes in base64 will do.
const CLUSTER: &str = "eWFyZHN0aWNrLWthZmthMQ";

impl Kafka {
    fn jars(&self) -> Result<Jars> {
        let artifact = format!("kafka_{}", versions::of("kafka-scala")?);
        let library = ["org.apache.kafka", &artifact, versions::of("kafka")?];
        Ok(Jars {
            name: "kafka",
            libraries: vec![library.map(str::to_owned)],
            driver: ("Kafka.java", DRIVER),
        })
    }
}

impl Peer for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn version(&self) -> Result<String> {
        Ok(versions::of("kafka")?.to_owned())
    }

    fn durability(&self, class: Class) -> &'static str {
        match class {
            Class::Durable => "acks=all, log.flush.interval.messages=1",
            Class::Cached => "acks=all, log.flush.interval.messages=9223372036854775807",
        }
    }

    fn can(&self, work: Work) -> bool {
        !matches!(work, Work::Drain(Filter::Tag | Filter::Sql))
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        self.jars()?.prepare(place)
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let jars = self.jars()?;
        let (broker, controller) = (site.ports.broker, site.ports.more);
        let flush = self.durability(site.class).rsplit_once('=');
        let one = || "1".to_owned();
        let lines = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", one()),
            (
                "controller.quorum.voters",
                format!("1@127.0.0.1:{controller}"),
            ),
            (
                "listeners",
                format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"),
            ),
            (
                "advertised.listeners",
                format!("PLAINTEXT://127.0.0.1:{broker}"),
            ),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
            ("log.dirs", site.dir.join("data").display().to_string()),
            (
                "log.flush.interval.messages",
                flush.map_or("", |(_, it)| it).to_owned(),
            ),
            ("offsets.topic.replication.factor", one()),
            ("offsets.topic.num.partitions", one()),
            ("transaction.state.log.replication.factor", one()),
            ("transaction.state.log.min.isr", one()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ];
        let file = properties(site.dir.join("kafka.properties"), &lines)?;
        let home = site.dir.join("home");
        if !site.dir.join("data").exists() {
            let mut format = jars.java(site.place, &home, &[])?;
            let tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"];
            make(format.args(tool).arg(&file))?;
        }
        let mut command = jars.java(site.place, &home, &["-Xms1g", "-Xmx1g"])?;
        command.arg("kafka.Kafka").arg(file);
        Ok(vec![Server {
            name: "kafka",
            command,
            opens: None,
        }])
    }

    fn driver(&self, site: &Site<'_>) -> Result<Command> {
        let home = site.dir.join("driver-home");
        let mut command = self.jars()?.java(site.place, &home, &["-Xmx1g"])?;
        command.args(["Kafka", &format!("127.0.0.1:{}", site.ports.broker)]);
        Ok(command)
    }
}
