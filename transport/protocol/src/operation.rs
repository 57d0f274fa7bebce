//! The table of operations: every request two processes can make, with its number on the wire.
//!
//! Numbers are explicit and only ever appended. A request that has to say more becomes a new version of
//! its kind: it appends fields, each of which is one zero byte when it says nothing. So an earlier version
//! reads as the newest with zeros behind it, and a request goes out in the earliest version that can say
//! it: peers of different releases understand each other until one uses what the other does not have.
//!
//! To add an operation: write its request and reply in a file named by the noun or verb, add a line
//! to the table below, a line to the server's own table (`host/broker/src/requests.rs` or
//! `host/nameserver/src/requests.rs`), and freeze its bytes in `tests/golden`.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, WireError};
use crate::frame::{Frame, encode};

/// Where a request or reply travels: the frame's header (at most 16 KiB), or its body for what can
/// grow with the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Header,
    Table,
}

/// One kind of request and what answers it.
pub trait Operation: Serialize + DeserializeOwned {
    const KIND: Kind;
    /// Fields each version after the first has appended to the request.
    const APPENDED: &'static [usize] = &[];
    const REQUEST: Place;
    const REPLY: Place;
    type Reply: Serialize + DeserializeOwned;

    /// The earliest version that can say this.
    fn version(&self) -> u8 {
        1
    }
}

/// The newest version of a request.
const fn newest<O: Operation>() -> u8 {
    1 + O::APPENDED.len() as u8
}

/// Zero bytes between a request of this version and the newest one.
fn zeros<O: Operation>(version: u8) -> usize {
    O::APPENDED.iter().skip(version as usize - 1).sum()
}

/// A request in the earliest version that can say it, and the number of that version.
pub(crate) fn encode_request<O: Operation>(request: &O) -> (u8, Vec<u8>) {
    let version = request.version();
    let mut bytes = encode(request);
    bytes.truncate(bytes.len() - zeros::<O>(version));
    (version, bytes)
}

macro_rules! operations {
    ($($number:literal $request:ident $request_place:ident => $reply:ident $reply_place:ident
        $(, version 2 appends $second:literal $(, version 3 appends $third:literal)?)?;)*) => {
        /// The number of an operation on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($request = $number,)*
        }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$request,)*];

            pub fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$request),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$request => stringify!($request),)*
                }
            }
        }

        /// A decoded request of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $($request(crate::$request),)*
        }

        impl Request {
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$request(_) => Kind::$request,)*
                }
            }

            /// Decodes the request a frame carries. The body of a non-table request stays in the frame.
            pub fn decode(frame: &Frame) -> Result<Self, WireError> {
                match Kind::from_number(frame.kind) {
                    $(Some(Kind::$request) => decode_request::<crate::$request>(frame).map(Self::$request),)*
                    None => Err(WireError::new(
                        Code::UNSUPPORTED,
                        format!("request kind {} is not known here", frame.kind),
                    )),
                }
            }
        }

        $(impl Operation for crate::$request {
            const KIND: Kind = Kind::$request;
            const REQUEST: Place = Place::$request_place;
            const REPLY: Place = Place::$reply_place;
            type Reply = crate::$reply;
            $(
                const APPENDED: &'static [usize] = &[$second $(, $third)?];
                fn version(&self) -> u8 {
                    let version = 1 + u8::from(self.says_more_than_version_1());
                    $(if $third > 0 && self.says_more_than_version_2() {
                        return 3;
                    })?
                    version
                }
            )?
        })*
    };
}

operations! {
     1 Hello          Header => HelloReply          Header;
     2 Heartbeat      Header => HeartbeatReply      Header;
     3 Cancel         Header => Cancel              Header;
    10 RegisterBroker Table  => RegisterBrokerReply Header, version 2 appends 1;
    11 PublishTopics  Table  => PublishTopicsReply  Header, version 2 appends 1;
    12 Route          Header => RouteReply          Table;
    13 Brokers        Header => BrokersReply        Table;
    20 CreateTopic    Header => CreateTopicReply    Header, version 2 appends 1;
    21 DescribeTopic  Header => DescribeTopicReply  Table;
    22 ListTopics     Header => ListTopicsReply     Table;
    23 DeleteTopic    Header => DeleteTopicReply    Header, version 2 appends 1;
    24 SetTopic       Header => SetTopicReply       Header;
    25 TopicSettings  Header => TopicSettingsReply  Header;
    26 RestoreTopic   Header => RestoreTopicReply   Header;
    27 ListDeletedTopics Header => ListDeletedTopicsReply Table;
    28 CountMessages  Header => CountMessagesReply  Table;
    30 Send           Header => SendReply           Header, version 2 appends 2, version 3 appends 1;
    31 Pull           Header => PullReply           Header, version 2 appends 1;
    32 SendSelected   Header => SendSelectedReply   Table, version 2 appends 1, version 3 appends 1;
    33 RecallMessage  Header => RecallMessageReply  Header;
    34 ListDelayed    Header => ListDelayedReply    Table;
    35 EndTransaction Header => EndTransactionReply Header;
    36 PollTransactions Header => PollTransactionsReply Table;
    37 ListTransactions Header => ListTransactionsReply Table;
    38 Pop            Header => PopReply            Header, version 2 appends 1;
    39 AckPopped      Table  => AckPoppedReply      Table;
    40 CommitOffsets  Table  => CommitOffsetsReply  Header, version 2 appends 1;
    41 QueryOffsets   Header => QueryOffsetsReply   Table;
    42 OffsetRange    Header => OffsetRangeReply    Header;
    43 OffsetAt       Header => OffsetAtReply       Header;
    44 HidePopped     Table  => HidePoppedReply     Table;
    45 FindMessages   Header => FindMessagesReply  Header;
    46 MessageAt      Header => MessageAtReply     Header;
    47 ResendMessage  Header => ResendMessageReply Header;
    48 ExplainDelivery Header => ExplainDeliveryReply Table;
    49 TopicGroups    Header => TopicGroupsReply   Table;
    50 Status         Header => StatusReply         Table;
    51 Subscribe      Header => PullReply           Header;
    52 Credit         Header => Credit              Header;
    55 TrialMoves     Header => TrialMovesReply     Table;
    56 PluginFallBacks Header => PluginFallBacksReply Table;
    57 BindingStates  Header => BindingStatesReply Table;
    58 PluginUsers    Header => PluginUsersReply   Table;
    60 BeginUpload    Header => BeginUploadReply    Header;
    61 UploadChunk    Header => UploadChunkReply    Header;
    62 FinishUpload   Header => FinishUploadReply   Header;
    63 ChangePlugin   Header => ChangePluginReply   Header;
    64 ListPlugins    Header => ListPluginsReply    Table;
    65 DescribePlugin Header => DescribePluginReply Table;
    66 PluginHealth   Header => PluginHealthReply   Table;
    67 PluginLogs     Header => PluginLogsReply     Table;
    68 ChangeBindings Header => ChangeBindingsReply Table;
    69 ListBindings   Header => ListBindingsReply   Table;
    70 JoinGroup      Table  => JoinGroupReply      Table, version 2 appends 1;
    71 LeaveGroup     Header => LeaveGroupReply     Header;
    72 LeaseQueues    Table  => LeaseQueuesReply    Table;
    73 ListGroups     Header => ListGroupsReply     Table;
    74 DescribeGroup  Header => DescribeGroupReply  Table;
    75 DeleteGroup    Header => DeleteGroupReply    Header;
    76 Reply          Header => ReplyReply          Header;
    77 FetchReplies   Header => FetchRepliesReply   Table;
    80 Reconsume      Header => ReconsumeReply      Header, version 2 appends 1, version 3 appends 1;
    81 SetGroup       Header => SetGroupReply       Header;
    82 ResendDeadLetters Header => ResendDeadLettersReply Header;
    83 WaitFigures    Header => WaitFiguresReply    Table;
    90 DescribeConfig Header => DescribeConfigReply Table;
    91 ReplayPlugin   Header => ReplayPluginReply   Table;
   100 ConfirmBroker  Header => ConfirmBrokerReply  Header;
   101 AskMember      Header => AskMemberReply      Table;
   102 AwaitQuestions Header => AwaitQuestionsReply Table;
   103 AnswerQuestion Table  => AnswerQuestionReply Header;
}

fn decode_request<O: Operation>(frame: &Frame) -> Result<O, WireError> {
    let newest = newest::<O>();
    if !(1..=newest).contains(&frame.version) {
        return Err(WireError::new(
            Code::UNSUPPORTED,
            format!(
                "{} version {} is not known here, only up to version {newest}",
                O::KIND.name(),
                frame.version,
            ),
        ));
    }
    let bytes = match O::REQUEST {
        Place::Header => &frame.header,
        Place::Table => table(frame)?,
    };
    match zeros::<O>(frame.version) {
        0 => decode_exactly(O::KIND.name(), bytes),
        zeros => {
            let mut newest = Vec::with_capacity(bytes.len() + zeros);
            newest.extend_from_slice(bytes);
            newest.resize(bytes.len() + zeros, 0);
            decode_exactly(O::KIND.name(), &newest)
        }
    }
}

/// Decodes the reply to an `O`: the reply itself, or the error the peer sent instead.
pub fn decode_reply<O: Operation>(frame: &Frame) -> Result<O::Reply, WireError> {
    if frame.flags.is_error() {
        return Err(WireError::decode(&frame.header)?);
    }
    let bytes = match O::REPLY {
        Place::Header => &frame.header,
        Place::Table => table(frame)?,
    };
    decode_exactly(O::KIND.name(), bytes)
}

fn table(frame: &Frame) -> Result<&Bytes, WireError> {
    if frame.header.is_empty() {
        Ok(&frame.body)
    } else {
        Err(WireError::new(
            Code::PROTOCOL,
            "a table travels in the body, yet the frame has a header",
        ))
    }
}

/// Decodes all of `bytes`; trailing bytes are an error, so that no two encodings mean the same.
pub(crate) fn decode_exactly<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, WireError> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(WireError::new(
            Code::PROTOCOL,
            format!("{what} has {} bytes too many", rest.len()),
        )),
        Err(error) => Err(WireError::new(
            Code::PROTOCOL,
            format!("{what} does not decode: {error}"),
        )),
    }
}
