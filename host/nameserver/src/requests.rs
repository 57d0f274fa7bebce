//! THE table: every request a name server answers. Brokers' requests are refused here.

use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::operation::Operation;
use quern_protocol::{
    Brokers, BrokersReply, Code, ConfirmBroker, DescribeConfig, Heartbeat, Hello, PublishTopics,
    RegisterBroker, Request, Route, RouteReply, WireError,
};

use crate::session::Session;

/// Answers one frame.
pub(crate) fn handle(session: &Session, frame: &Frame) -> Outgoing {
    answer(session, frame).unwrap_or_else(|error| Outgoing::error(frame.kind, &error))
}

fn answer(session: &Session, frame: &Frame) -> Result<Outgoing, WireError> {
    match Request::decode(frame)? {
        Request::Hello(it) => reply::<Hello>(&session.hello(&it)?),
        Request::Heartbeat(it) => reply::<Heartbeat>(&session.heartbeat(&it)?),
        Request::RegisterBroker(it) => reply::<RegisterBroker>(&session.register(it)?),
        Request::ConfirmBroker(it) => reply::<ConfirmBroker>(&session.confirm(&it)?),
        Request::PublishTopics(it) => reply::<PublishTopics>(&session.publish(it)?),
        Request::Route(it) => {
            let brokers = session.routes(|routes, _| routes.route(&it))?;
            reply::<Route>(&RouteReply { brokers })
        }
        Request::Brokers(_) => {
            let brokers = session.routes(|routes, now| routes.brokers(now));
            reply::<Brokers>(&BrokersReply { brokers })
        }
        Request::DescribeConfig(_) => reply::<DescribeConfig>(&session.config()),
        // Taken by the transport, or a broker's.
        other => Err(WireError::new(
            Code::UNSUPPORTED,
            format!(
                "{} is a question for a broker, and this is a name server; the usual port of a broker is 10911",
                other.kind().name()
            ),
        )),
    }
}

fn reply<O: Operation>(reply: &O::Reply) -> Result<Outgoing, WireError> {
    Ok(Outgoing::reply::<O>(reply, Vec::new())?)
}
