//! Samples of what nodes say of their settings.

use quern_protocol::{
    ConfigEntry, ConfigOrigin, ConfirmBroker, ConfirmBrokerReply, DescribeConfig,
    DescribeConfigReply,
};

use crate::{Samples, broker};

pub(crate) fn config(all: &mut Samples) {
    let entry = |key: &str, value: &str, origin| ConfigEntry {
        key: key.to_owned(),
        value: value.to_owned(),
        origin,
        ignored: None,
    };
    let file = ConfigOrigin::File {
        path: "broker.conf".to_owned(),
        line: 300,
    };
    let flag = ConfigOrigin::Flag("data".to_owned());
    let environment = ConfigOrigin::Environment("QUERN_DATA".to_owned());
    let entries = vec![
        entry("brokerName", "broker-a", ConfigOrigin::Default),
        entry("listenPort", "10911", file.clone()),
        entry("storePathRootDir", "/d", environment),
        entry("storePathRootDir", "/d", flag),
        entry("brokerId", "0", ConfigOrigin::Program),
        ConfigEntry {
            ignored: Some("no such threads".to_owned()),
            ..entry("serverWorkerThreads", "8", file)
        },
    ];
    all.add(&DescribeConfig {}, &DescribeConfigReply { entries });
}

/// What a broker asks name servers.
pub(crate) fn confirming(all: &mut Samples) {
    let confirm = ConfirmBroker {
        broker: broker(),
        fingerprint: 0x0102_0304_0506_0708,
    };
    all.add(&confirm, &ConfirmBrokerReply { registered: true });
}
