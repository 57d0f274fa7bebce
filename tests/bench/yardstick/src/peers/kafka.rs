//! Apache Kafka from Maven Central, broker and controller in one process (KRaft). It has no filters. A second
//! peer is the same with TLS, for what it does differently then: batches are decrypted, and a drain is no `sendfile`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Peer;
use super::java::{Jars, properties};
use crate::place::{Place, Site, make};
use crate::processes::Server;
use crate::versions;
use crate::work::{Class, Filter, Work};

pub(crate) struct Kafka {
    pub(crate) is_encrypted: bool,
}

const DRIVER: &str = include_str!("../../drivers/java/Kafka.java");
/// What is logged: a word when it ends, and no work besides.
const ERRORS: &str = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error";
/// Any 16 bytes in base64 will do.
const CLUSTER: &str = "eWFyZHN0aWNrLWthZmthMQ";
/// Of a key that is made for one turn.
const PASSWORD: &str = "yardstick";

impl Kafka {
    fn jars(&self) -> Result<Jars> {
        let artifact = format!("kafka_{}", versions::of("kafka-scala")?);
        let kafka = ["org.apache.kafka", &artifact, versions::of("kafka")?];
        // Without it nobody is told why it ends.
        let logger = ["org.slf4j", "slf4j-simple", versions::of("slf4j-simple")?];
        Ok(Jars {
            name: "kafka",
            libraries: [kafka, logger].map(|it| it.map(str::to_owned)).to_vec(),
            driver: ("Kafka.java", DRIVER),
        })
    }
}

impl Peer for Kafka {
    fn name(&self) -> &'static str {
        if self.is_encrypted {
            "kafka-tls"
        } else {
            "kafka"
        }
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
        if self.is_encrypted {
            return matches!(
                work,
                Work::Warm | Work::Batches { .. } | Work::Drain(Filter::All) | Work::FanOut { .. }
            );
        }
        !matches!(work, Work::Drain(filter) if filter != Filter::All)
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        // ApiVersions, version 0, of a client without a name.
        Some(vec![0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0])
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        self.jars()?.prepare(place)
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let jars = self.jars()?;
        let (broker, controller) = (site.at(site.ports.broker), site.at(site.ports.more));
        let flush = self.durability(site.class).rsplit_once('=');
        let one = || "1".to_owned();
        let protocol = if self.is_encrypted {
            "SSL"
        } else {
            "PLAINTEXT"
        };
        let mut lines = vec![
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", one()),
            ("controller.quorum.voters", format!("1@{controller}")),
            (
                "listeners",
                format!("{protocol}://{broker},CONTROLLER://{controller}"),
            ),
            ("advertised.listeners", format!("{protocol}://{broker}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("inter.broker.listener.name", protocol.to_owned()),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT".to_owned(),
            ),
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
        if self.is_encrypted {
            let keys = key(site)?.display().to_string();
            lines.extend([
                ("ssl.keystore.location", keys.clone()),
                ("ssl.keystore.password", PASSWORD.to_owned()),
                ("ssl.truststore.location", keys),
                ("ssl.truststore.password", PASSWORD.to_owned()),
            ]);
        }
        let file = properties(site.dir.join("kafka.properties"), &lines)?;
        let home = site.dir.join("home");
        if !site.dir.join("data").exists() {
            let mut format = jars.java(site.place, &home, &[])?;
            let tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"];
            make(format.args(tool).arg(&file))?;
        }
        let mut command = jars.java(site.place, &home, &["-Xms1g", "-Xmx1g", ERRORS])?;
        command.arg("kafka.Kafka").arg(file);
        Ok(vec![Server {
            name: "kafka",
            command,
            opens: None,
        }])
    }

    fn driver(&self, site: &Site<'_>) -> Result<Command> {
        let home = site.dir.join("driver-home");
        let mut command = self.jars()?.java(site.place, &home, &["-Xmx1g", ERRORS])?;
        command.args(["Kafka", &site.at(site.ports.broker)]);
        if self.is_encrypted {
            command.arg(key(site)?).arg(PASSWORD);
        }
        Ok(command)
    }
}

/// A key and its certificate, which broker and driver both trust.
fn key(site: &Site<'_>) -> Result<PathBuf> {
    let file = site.dir.join("keys.p12");
    if !file.exists() {
        let name = format!("san=ip:{}", site.host);
        let fixed = [
            "-genkeypair",
            "-alias",
            "yardstick",
            "-keyalg",
            "EC",
            "-dname",
            "CN=yardstick",
            "-storetype",
            "PKCS12",
            "-storepass",
            PASSWORD,
        ];
        let mut tool = Command::new("keytool");
        make(
            tool.args(fixed)
                .args(["-ext", &name, "-keystore"])
                .arg(&file),
        )?;
    }
    Ok(file)
}
