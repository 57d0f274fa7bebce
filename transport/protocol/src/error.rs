//! Error codes: one append-only table, the wire form of an error, and what a user reads about it.
//!
//! 1xxx transport · 2xxx topics and groups · 3xxx send and consume · 40xx storage · 41xx–44xx
//! plugins · 5xxx security · 9xxx internal. A number is never given a second meaning.

use serde::{Deserialize, Serialize};

use crate::frame::encode;
use crate::limits;
use crate::operation::decode_exactly;

/// Whether, and where, the same request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// The same request would fail the same way.
    Never,
    /// The same broker may answer differently later.
    Here,
    /// Another broker may do it.
    Elsewhere,
    /// Ask a name server for the route first.
    AfterRoutes,
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    pub number: u16,
    pub name: &'static str,
    pub retry: Retry,
    /// What it means and why it happens.
    pub meaning: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! codes {
    ($($number:literal $name:ident $retry:ident $meaning:literal $advice:literal;)*) => {
        impl Code {
            $(pub const $name: Self = Self {
                number: $number,
                name: stringify!($name),
                retry: Retry::$retry,
                meaning: $meaning,
                advice: $advice,
            };)*

            /// The whole table, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

codes! {
    1001 UNSUPPORTED Never
        "The peer does not know this request, version or option; the connection stays usable."
        "Compare the versions of both sides (`quern --version`); upgrade the older one.";
    1002 TOO_LARGE Never
        "A message, header or frame is beyond a limit, which the text names. Nothing of it was stored."
        "Make it smaller: bodies end at 4 MiB. Keep large objects elsewhere and send their address.";
    1003 DEADLINE Here
        "The time the caller allowed was over before the answer came. A send may or may not have been stored."
        "Allow more time, or look for the cause: a slow disk, a long queue, a lost network.";
    1004 RETRY_AFTER Here
        "The node protects itself: a queue of requests, a window or a quota is full."
        "Try again after the time given. If it goes on, send less or give the node more.";
    1005 PROTOCOL Never
        "Bytes arrived that do not follow the protocol: a bad frame, a header that does not decode, a wrong first message."
        "Something that is not Quernstone, or a broken version of it, is talking to this port. Check the address and the program behind it.";
    1006 CONNECT Here
        "No connection: nobody answered at this address, or the answer was not QUIC."
        "Is the server running, and is this its address and UDP port? A firewall often lets TCP pass and UDP not. Start one here with `quern start`.";
    1007 CONNECTION_LOST Here
        "The connection ended before the answer. A send may or may not have been stored."
        "The client reconnects by itself. If it happens often, look at the server's log.";
    1008 GOING_AWAY Elsewhere
        "The node is shutting down and takes no new requests."
        "The client reconnects by itself; wait for the node or use another.";
    1009 UNTRUSTED Never
        "The certificate of the other side was not made by an authority trusted here, or is not for this name or time."
        "Give the right authority with `--ca FILE`. On one machine both sides must run as the same user, who owns the development CA. If it is 'not yet valid', a clock is wrong.";
    1010 ADDRESS_IN_USE Never
        "Another process listens on this UDP port."
        "Stop it, or choose another port with `--listen HOST:PORT` (`--namesrv-listen` for the name server).";
    1011 WRONG_PROTOCOL_VERSION Never
        "The two sides have no protocol version (ALPN) in common."
        "Upgrade the older side; this version speaks quern/1. If the other side is not Quernstone, the address is wrong.";
    1012 BAD_CONFIG Never
        "A setting has a value that cannot be used; the text names it and what is allowed."
        "Correct the setting and start again. Nothing was changed.";
    2001 NOT_FOUND Never
        "The topic, queue, group or plugin named does not exist on this broker."
        "`quern topic ls` and `quern plugin ls` show what exists; `quern topic create NAME` makes a topic.";
    2002 ALREADY_EXISTS Never
        "A topic of this name exists."
        "`quern topic describe NAME` shows it. Choose another name, or use it as it is.";
    2003 NO_ROUTE AfterRoutes
        "The name servers know no broker that serves this topic."
        "`quern topic ls` shows what exists; create it with `quern topic create NAME`. If no broker is registered, start one.";
    2004 NOT_LEADER AfterRoutes
        "This broker does not lead the queue any more."
        "The client asks for the route again by itself.";
    2005 BAD_NAME Never
        "A topic, group or broker name has characters or a length that are not allowed."
        "Use 1 to 127 of A-Z a-z 0-9 % | _ - ; broker names: A-Z a-z 0-9 _ - .";
    2006 NO_NAME_SERVER Here
        "None of the name servers given answered."
        "Check `--namesrv`; start one with `quern start --namesrv-only`.";
    2007 BROKER_NAME_TAKEN Never
        "Another live broker with another address is registered under this name."
        "Give each broker a name of its own with `--name`; or stop the other one.";
    2008 SUBSCRIPTIONS_DIFFER Here
        "Members of one group ask for different topics, filters or strategies; the text names two of them. A queue has one owner, so what it is sent must not depend on who that is."
        "Give every member the same subscriptions. To change them, stop the members that have the old ones, or use a new group.";
    2009 GROUP_IN_USE Never
        "The group has members; what it has committed is not forgotten under them."
        "Stop its consumers, or wait until those that died are missed (10 s): `quern group members NAME`.";
    2010 TOPIC_CLOSED Elsewhere
        "The topic's permission on this broker does not allow it: to read, or to write."
        "`quern topic set NAME` shows it; `quern topic set NAME --perm rw` opens the topic.";
    2011 NO_GROUP Never
        "The broker does not let groups be made by consuming for them (`autoCreateSubscriptionGroup` is false), and it knows none of this name."
        "`quern group create NAME` makes it on every broker.";
    2012 GROUP_CLOSED Here
        "The group's settings do not allow it to consume (`consumeEnable`). Its members keep their queues and go on once it may."
        "`quern group set NAME` shows it; `quern group set NAME --consume on` allows it again.";
    2013 MESSAGE_NOT_FOUND Never
        "No message has this id, key or place: there never was one, its topic was deleted, or the log has let it go since."
        "`quern produce`, `consume --format %i` and `msg search` print ids; the handle BROKER/POSITION of `produce --delay` and `--tx` is one, too. How long messages are kept: `--file-reserved-time`.";
    2014 MESSAGE_WAITS Never
        "The message is in no queue, because it waits for its time or its transaction, or because it was taken back or rolled back. So it cannot be sent again."
        "`quern msg get ID` says what it waits for; `quern delay cancel`, `quern tx commit` and `quern tx rollback` end the waiting.";
    2015 NAME_THE_TOPIC Never
        "The broker has too many topics to look for an id in each of them."
        "Say which topic the message is of: `--topic NAME`.";
    2017 TOPIC_DELETED AfterRoutes
        "The topic is being deleted: nobody can send to it or read it, and after its time of grace it is gone for good. No other topic can have its name until then."
        "`quern topic restore NAME` brings it back with its messages and offsets; `quern topic rm NAME --now` ends it at once, so that the name is free; `quern topic ls --deleted` shows all of them.";
    2018 BROADCAST_REFUSED Never
        "The group's settings do not allow its consumers to broadcast (`consumeBroadcastEnable`): each would take every message for itself."
        "Consume as a member of the group; or allow it: `quern group set NAME --broadcast on`.";
    2021 GROUP_BUSY Never
        "The group has members that own its queues, so nobody can pop for it: it is consumed one way at a time."
        "Let the members leave, which takes them 10 s at most, or pop for another group; `quern group members NAME` shows them.";
    2030 TOPIC_FORBIDDEN Never
        "The group is forbidden to consume this topic; the text says who forbade it. Its members keep their queues and go on once it may."
        "`quern group set NAME` shows which topics are forbidden; `quern group set NAME --allow TOPIC` allows one again. Or consume it by another group.";
    2031 UNKNOWN_MEMBER Here
        "The group's coordinator knows no member of this id: it has left, was silent for too long, or has not joined since the broker was started."
        "`quern group members NAME` shows who there is. Our client joins again by itself.";
    2032 MEMBER_UNABLE Never
        "The member that was asked cannot do what it was asked; the text says why, in its own words."
        "Only a consumer with a listener can be given a message to try: `quern consume --exec --workers 1`, `Consumer::listen`. If the message could not be read, `quern msg get ID` says more.";
    3001 OUT_OF_SEQUENCE Here
        "A batch came before its predecessor."
        "The client sends the predecessor first, by itself.";
    3002 UNKNOWN_PRODUCER Here
        "The broker no longer remembers this producer id."
        "The client begins to count anew, by itself.";
    3003 FENCED Never
        "Someone else owns what this request wanted to change: a queue's lease is over, or was taken back by a reset."
        "Nothing: the newer owner goes on, and our client begins again by itself.";
    3004 RESERVED_NAME Never
        "A property or topic with this name belongs to the system."
        "Choose another name: not one of RocketMQ's own and not beginning with two underscores.";
    3005 BAD_MESSAGE Never
        "A message breaks a rule of the format; the text says which. Nothing was stored."
        "A tag has no '|' and no control characters, a key no control characters, a property a name.";
    3006 BAD_CHECKSUM Here
        "A message was damaged between the producer and this broker. Nothing was stored."
        "Send it again. If it repeats, suspect memory of the producer's machine, or a client that lays out blocks wrongly.";
    3007 BAD_REQUEST Never
        "A request is understood but impossible: a count of zero, a queue that is not there, a number out of its range."
        "The text names the field and what is allowed.";
    3008 DURABILITY_REFUSED Never
        "The durability class asked for cannot be given here: replicated and quorum need replicas, and there are none. Nothing was stored."
        "Ask for local, which is this broker's disk, or fast; or give the topic another class: `quern topic set NAME --durability local`.";
    3009 WRONG_TYPE Never
        "The topic takes another type of message: a fifo topic only messages with an order key, a normal one only those without, a delay one only those for later. Nothing was stored."
        "Give the message an order key or leave it out; or let the topic take both: `quern topic set NAME --type mixed`.";
    3010 KEY_MISSING Never
        "The topic is compacted: it keeps the newest message of each key, and a message has none. Nothing was stored."
        "Give the message a key: `quern produce --key KEY`, `Message::key`. Or let the topic's messages go when they are old: `quern topic set NAME --cleanup delete`.";
    3011 QUEUE_NOT_HELD Here
        "The queue is not one of those that this member of the group has now."
        "`LitePullConsumer::positions` tells which it has. Queues move as members come and go; for queues of one's own choice there is the pull consumer.";
    3021 OTHER_OUTCOME Never
        "The transaction has ended otherwise than asked for: another producer, the broker or an operator was first. The first end holds."
        "The text says how it ended. A rolled-back message that is to be sent after all is sent anew.";
    4001 DISK_FULL Elsewhere
        "The log's disk is full. The messages of this request were not stored; what was acknowledged before is safe and readable."
        "Free space or enlarge the disk under the data directory; sending goes on by itself.";
    4002 STORAGE_FAILED Elsewhere
        "The disk reported an error while writing. The log stops taking messages, because what a failed write or sync left behind is unknown."
        "Look at the system's log for disk errors, then restart the broker: it verifies the log.";
    4003 DIRECTORY_LOCKED Never
        "Another process uses this data directory."
        "Stop it (its process id is in the text), or give this one a directory of its own with `--data DIR`.";
    4004 DIRECTORY_FOREIGN Never
        "The data directory contains files but no FORMAT file of ours: it belongs to something else."
        "Give an empty or new directory with `--data DIR`.";
    4005 FORMAT_UNKNOWN Never
        "The data directory was written in a format this version does not read. Nothing was changed."
        "Use the version that wrote it, or one that says it converts it.";
    4006 DIRECTORY_UNUSABLE Never
        "The data directory cannot be made, read or written by this user."
        "Check its owner, its permissions and whether the file system is read-only; or give another with `--data DIR`.";
    4007 DATA_CORRUPT Never
        "Bytes that were durable are damaged: this is no crash but a failing disk or a stray writer. Nothing was changed."
        "Copy the data directory before anything else. `quern store check DIR` tells all that is damaged. Restore the file named in the text from a backup; or stop the node and let `quern store repair DIR` put the damaged ranges aside: what is in none of them is there again at its old offset (`--dry-run` tells before what is lost).";
    4008 CLOCK Here
        "The wall clock jumped by more than five minutes against the machine's steady clock; the log keeps its own time and does not follow."
        "Check time synchronisation of this machine. Messages keep flowing.";
    4101 PLUGIN_INVALID Never
        "The bytes are not a component of the plugin contract this broker speaks."
        "Build it with the guest SDK for the contract version named in the text.";
    4102 PLUGIN_IMPORT Never
        "The component imports something besides `quern:plugin/host`. A plugin has no clock, no network, no files."
        "Build it for wasm32-unknown-unknown: `quern plugin build` does. WASI comes in with wasm32-wasip2 and with toolchains for other languages unless they are told to leave it out.";
    4103 PLUGIN_EXPORT Never
        "The component exports no world of the plugin contract, or one of another version."
        "Build it with the guest SDK of this version: `quern plugin new` writes it to vendor/.";
    4104 PLUGIN_TOO_LARGE Never
        "The component, or something in it that costs the compiler, is beyond a limit, which the text names."
        "Components end at 32 MiB, functions at 64 KiB, at 512 KiB in components of more than 4 MiB. Build with optimisation and without debug symbols; `quern plugin build` does.";
    4105 PLUGIN_BUDGET Never
        "Compiling or trying the component took more time or memory than the child process has; nothing else noticed."
        "Look for one function of many branches, or very many functions; the limits are 10 s and 1 GiB.";
    4106 PLUGIN_CASES Never
        "A case its author sent along is not answered as expected, or is not understood. The plugin was not taken in."
        "`quern plugin test` shows which, and what was answered instead.";
    4107 PLUGIN_IMPURE Never
        "The same messages got other verdicts when they came in another order, in other batches, or again."
        "A verdict may depend on nothing but the message and the parameters: keep no counters and no memory of earlier messages.";
    4108 PLUGIN_REVOKED Never
        "The plugin's signature is missing, wrong or revoked. This version checks none: the code is kept for one that does."
        "Upload it again, signed with a key the broker trusts.";
    4109 PLUGIN_DIGEST Here
        "The bytes that arrived are not those that were announced: their SHA-256 differs. They were thrown away."
        "Upload again; if it repeats, something on the way changes bytes, or the file changes while it is read.";
    4201 EXPRESSION_REFUSED Never
        "A filter does not accept its expression; the text says where and why."
        "Correct the expression. For tags: `A || B`, or `*` for all. For SQL: `region = 'eu' AND amount > 100`.";
    4202 PARAMETER_REFUSED Never
        "A plugin does not accept a parameter, or lacks one; the text says which and why."
        "`quern plugin info NAME` says what the plugin is; its README, which parameters it takes. Give them with `--param NAME=VALUE`.";
    4205 LANGUAGE_UNKNOWN Never
        "No plugin of this broker speaks the expression language asked for."
        "`TAG` and `SQL92` are always there.";
    4206 SELECTOR_UNKNOWN Never
        "No queue selector of this broker has the name asked for."
        "`hash`, `fifo`, `round-robin`, `random`, `least-latency` and `machine-room` are always there.";
    4207 STRATEGY_UNKNOWN Never
        "No allocation strategy of this broker has the name asked for."
        "The text names those there are; averagely is the usual one.";
    4208 CHAIN_TOO_LONG Never
        "A group has at most three filters for a topic: what its consumers ask for, and two that are bound. Nothing was bound."
        "`quern plugin bindings` shows what is bound; `quern plugin unbind NAME` makes room, and one filter may do the work of two.";
    4209 NOT_BOUND Never
        "No plugin of this name is bound to the group for the topic."
        "`quern plugin bindings` shows what is bound to whom.";
    4210 NOT_A_FILTER Never
        "The plugin decides something else than which messages a group receives, and cannot be bound as a filter."
        "`quern plugin ls` says what each plugin is.";
    4301 PLUGIN_TRAP Here
        "A plugin stopped in the middle of its work (a trap). The message is not lost: delivery of this queue waits, or what its group wants instead."
        "The broker's log names plugin, version and cause. Correct the plugin, or consume without it; `quern group set GROUP --on-filter-failure park` lets the rest go on.";
    4302 PLUGIN_FUEL Here
        "A plugin used more computing than it is allowed, perhaps for ever. The message is not lost: delivery of this queue waits, or what its group wants instead."
        "Correct the plugin, or consume without it; `quern group set GROUP --on-filter-failure park` lets the rest go on.";
    4303 PLUGIN_MEMORY Here
        "A plugin asked for more memory than it is allowed. The message is not lost: delivery of this queue waits, or what its group wants instead."
        "Correct the plugin, or consume without it; `quern group set GROUP --on-filter-failure park` lets the rest go on.";
    4304 PLUGIN_ANSWER Here
        "A plugin gave an answer of the wrong shape. The message is not lost: delivery of this queue waits, or what its group wants instead."
        "Correct the plugin, or consume without it; `quern group set GROUP --on-filter-failure park` lets the rest go on.";
    4305 PLUGIN_FAILURE Here
        "A plugin said it could not judge a message. The message is not lost: delivery of this queue waits, or what its group wants instead."
        "The text is the plugin's own. Correct the plugin or the message's sender; `quern group set GROUP --on-filter-failure park` lets the rest go on.";
    4306 PLUGIN_BREAKER_OPEN Here
        "A plugin failed on many messages and is not asked for a while; then one look asks again, and later and later while it fails. Messages wait, or what their group wants instead."
        "`quern plugin info NAME` shows on what it failed, for whom. Correct it and upload it; `quern plugin bind NAME --else 'sql92:…'` lets another decide meanwhile.";
    4401 PLUGIN_NOT_READY Here
        "The plugin has no version that can be used now: none is active, it is still on its way in, or its bytes are missing here. Messages wait."
        "`quern plugin info NAME` shows its versions; `quern plugin activate NAME` picks one; missing bytes come with uploading the same component again.";
    4403 PLUGIN_IN_USE Never
        "The version is active or on trial, so it cannot be removed; or the plugin is part of the broker."
        "Activate another version, or `quern plugin disable NAME`, then remove it.";
    4404 NOTHING_TO_ROLL_BACK Never
        "No version of this plugin was active before the one that is."
        "`quern plugin info NAME` shows its versions; `quern plugin activate NAME@N` picks one.";
    4405 PLUGIN_QUARANTINED Never
        "The version failed on too many messages and was taken out of service. No version that was active before could stand in, or this one is asked for by its number. What a filter is to judge waits; of a selector, messages with an order key are refused, and others take the queues in turn."
        "`quern plugin info NAME` shows why. Correct it and upload it, or ask it again as it is: `quern plugin activate NAME@N`.";
    5001 FORBIDDEN Never
        "The identity of the caller does not permit this request."
        "Clients and nodes use different doors; check the certificate and role.";
    9001 INTERNAL Here
        "A bug of ours: an invariant did not hold. The request failed, the node goes on."
        "Please report it with the broker's log around this time.";
}

impl Code {
    /// The line with this number.
    pub fn find(number: u16) -> Option<&'static Self> {
        Self::ALL.iter().find(|code| code.number == number)
    }
}

/// An error as it travels: the header of a frame with the error flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("Q-{code} {message}")]
pub struct WireError {
    pub code: u16,
    pub retry: Retry,
    /// Wait this long before trying again, ms; 0 = as the caller likes.
    pub after_ms: u32,
    /// What happened, with its facts.
    pub message: String,
}

/// Keeps an error inside a frame header whatever it quotes.
const MESSAGE_MAX: usize = limits::FRAME_HEADER / 8;

impl WireError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_MAX));
            message.push('…');
        }
        Self {
            code: code.number,
            retry: code.retry,
            after_ms: 0,
            message,
        }
    }

    #[must_use]
    pub fn after_ms(mut self, after_ms: u32) -> Self {
        self.after_ms = after_ms;
        self
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code.number
    }

    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// `Err` when the bytes are no error either.
    pub fn decode(header: &[u8]) -> Result<Self, Self> {
        decode_exactly("error", header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_unique_and_complete() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number < pair[1].number, "{}", pair[1].name);
        }
        for code in Code::ALL {
            assert!(code.meaning.ends_with(['.', ';']), "{}", code.name);
            assert!(code.advice.len() > 10, "{}", code.name);
            assert_eq!(Code::find(code.number), Some(code));
        }
    }

    #[test]
    fn a_long_quote_is_cut_at_a_character() {
        let error = WireError::new(Code::INTERNAL, "ö".repeat(10_000));
        assert!(error.encode().len() < limits::FRAME_HEADER);
        assert_eq!(WireError::decode(&error.encode()), Ok(error));
    }
}
