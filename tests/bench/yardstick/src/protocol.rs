//! The line protocol between the yardstick and its drivers, one for each broker, in the language whose
//! client is the reference there. A command is a line, `verb name=value …`; an answer a line of JSON.
//!
//! ```text
//! ping                                             the driver is up
//! topic   topic= queues= [topics=]                 a topic, or what stands for it, is there; with topics=, so many,
//!                                                  whose names are this and a number from 0
//! first   topic= queues=                           the same, and one message is acknowledged, as soon as it can be
//! produce topic= [topics=] [batch=] in_flight= size= seconds=  so many under way, each that is acknowledged replaced,
//!                                                  to these topics in turn; with batch=, so many batches of that many
//!                                                  messages, each acknowledged when all of them are: times are a batch's
//! fill    topic= count= size=                      a backlog: message i with tag t(i % 100), property a = i % 100
//! drain   topic= filter=all|tag|sql|sql-half|own expect= groups=  from the first message of new groups until so many came to
//!                                                  each of them, on the average
//! e2e     topic= rate= size= seconds=              open loop; times count from when a message was due
//! connect count=                                   so many clients are connected and idle; only those are asked for
//!                                                  whose broker cannot be greeted over TCP
//! ```
//!
//! A drain answers twice: `{"joined":true}` when the groups are joined and reading begins, from where on it is
//! measured, and then what it found. Joining takes a RocketMQ client seconds in which nothing is drained.

use serde::{Deserialize, Serialize};

/// Times of many messages, µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// What came of a command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// Messages that were acknowledged, or received.
    pub(crate) count: u64,
    /// Those that were not.
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    /// From the send, or from when it was due, to its acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ack: Option<Latency>,
    /// From when a message was due to its receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e2e: Option<Latency>,
    /// No answer yet, but from here on it is measured.
    #[serde(rename = "joined", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_joined: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// A command as a driver reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command<'a>(&'a str);

impl<'a> Command<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        Self(line)
    }

    pub(crate) fn verb(self) -> &'a str {
        self.0.split_whitespace().next().unwrap_or_default()
    }

    pub(crate) fn text(self, name: &str) -> Result<&'a str, String> {
        let mut words = self.0.split_whitespace().skip(1);
        let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("`{name}=` is missing in `{}`", self.0))
    }

    /// The topic, or as many as `topics=` says, whose names are the topic's and a number.
    pub(crate) fn topics(self) -> Result<Vec<String>, String> {
        let topic = self.text("topic")?;
        match self.number::<u32>("topics") {
            Ok(count) => Ok((0..count).map(|i| format!("{topic}{i}")).collect()),
            Err(_) => Ok(vec![topic.to_owned()]),
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|_| format!("`{name}={text}` is no number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let command = Command::of("produce topic=p in_flight=64 size=1024 seconds=1.5");
        assert_eq!(command.verb(), "produce");
        assert_eq!(command.text("topic"), Ok("p"));
        assert_eq!(command.number::<usize>("in_flight"), Ok(64));
        assert!(command.number::<usize>("seconds").is_err());
        assert!(command.text("count").is_err());
    }

    #[test]
    fn answers_of_drivers_in_other_languages_are_read() {
        let line = r#"{"count":7,"failed":0,"seconds":1.25,"ack":{"p50_us":1.5,"p99_us":2,"p999_us":3,"max_us":4},"more":1}"#;
        let answer: Answer = serde_json::from_str(line).expect("an answer");
        assert_eq!((answer.count, answer.seconds), (7, 1.25));
        assert_eq!(answer.ack.map(|it| it.p99_us), Some(2.0));
        assert_eq!(answer.e2e, None);
        let joined: Answer = serde_json::from_str(r#"{"joined":true}"#).expect("an answer");
        assert!(joined.is_joined && !answer.is_joined);
        let refused: Answer = serde_json::from_str(r#"{"error":"no"}"#).expect("an answer");
        assert_eq!(refused.error.as_deref(), Some("no"));
    }
}
