//! THE table: every request a broker answers, and the function that does it. Nothing else decides. A name server's
//! requests are refused here and answered in `host/nameserver`.

use std::sync::Arc;

use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::operation::Operation;
use quern_protocol::{
    AckPopped, AnswerQuestion, AskMember, AwaitQuestions, BeginUpload, BindingStates,
    ChangeBindings, ChangePlugin, CommitOffsets, CountMessages, CreateTopic, DeleteGroup,
    DeleteTopic, DescribeConfig, DescribeGroup, DescribePlugin, DescribeTopic, EndTransaction,
    FetchReplies, FinishUpload, Heartbeat, Hello, HidePopped, JoinGroup, LeaseQueues, LeaveGroup,
    ListBindings, ListDelayed, ListDeletedTopics, ListGroups, ListPlugins, ListTopics,
    ListTransactions, OffsetAt, OffsetRange, PluginFallBacks, PluginHealth, PluginLogs,
    PluginUsers, PollTransactions, QueryOffsets, RecallMessage, Reconsume, ReplayPlugin, Reply,
    Request, ResendDeadLetters, ResendMessage, RestoreTopic, Send, SendSelected, SetGroup,
    SetTopic, Status, TopicGroups, TopicSettings, TrialMoves, UploadChunk, WaitFigures, WireError,
};

use crate::{
    Broker, admin, bindings, checks, delay, durability, explain, find, group_admin, group_settings,
    health, join, lease, offsets, plugin_admin, plugin_logs, pop, popped, pull, questions, replay,
    replies, retry, select, send, session, status, to_the_end, topic_deletion, transactions,
    trials, upload, users, wait_figures,
};

/// Answers one frame.
pub(crate) async fn handle(broker: &Arc<Broker>, frame: Frame) -> Outgoing {
    let kind = frame.kind;
    match to_the_end::answer(broker, frame).await {
        Ok(outgoing) => outgoing,
        Err(error) => Outgoing::error(kind, &error),
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "a line a request, and all of them in one place"
)]
pub(crate) async fn answer(broker: &Arc<Broker>, frame: Frame) -> Result<Outgoing, WireError> {
    let patience = durability::patience(broker, frame.deadline_ms);
    match Request::decode(&frame)? {
        Request::Hello(hello) => reply::<Hello>(session::hello(broker, &hello)?),
        Request::Heartbeat(_) => reply::<Heartbeat>(session::heartbeat(broker)),

        Request::Send(it) => reply::<Send>(send::send(broker, it, frame.body, patience).await?),
        Request::SendSelected(it) => {
            let reply = select::send_selected(broker, it, frame.body, patience).await?;
            self::reply::<SendSelected>(reply)
        }
        Request::RecallMessage(it) => reply::<RecallMessage>(delay::recall(broker, it).await?),
        Request::ListDelayed(it) => reply::<ListDelayed>(delay::list(broker, it).await?),
        Request::EndTransaction(it) => {
            reply::<EndTransaction>(transactions::end(broker, it).await?)
        }
        Request::PollTransactions(it) => reply::<PollTransactions>(checks::poll(broker, it).await?),
        Request::ListTransactions(it) => {
            reply::<ListTransactions>(transactions::list(broker, it).await?)
        }
        Request::Reply(it) => reply::<Reply>(replies::reply(broker, it, frame.body)?),
        Request::FetchReplies(it) => reply::<FetchReplies>(replies::fetch(broker, it).await?),
        Request::Pop(it) => pop::pop(broker, it).await,
        Request::AckPopped(it) => reply::<AckPopped>(popped::acknowledge(broker, it).await?),
        Request::HidePopped(it) => reply::<HidePopped>(popped::hide(broker, it).await?),
        Request::Pull(it) => pull::pull(broker, it).await,

        Request::CommitOffsets(it) => reply::<CommitOffsets>(offsets::commit(broker, it).await?),
        Request::QueryOffsets(it) => reply::<QueryOffsets>(offsets::query(broker, &it)?),
        Request::OffsetRange(it) => reply::<OffsetRange>(offsets::range(broker, &it)?),
        Request::OffsetAt(it) => reply::<OffsetAt>(offsets::at_time(broker, it).await?),

        Request::FindMessages(it) => find::find(broker, it).await,
        Request::MessageAt(it) => find::at(broker, it).await,
        Request::ResendMessage(it) => reply::<ResendMessage>(find::resend(broker, it).await?),
        Request::ExplainDelivery(it) => explain::explain(broker, it).await,
        Request::TopicGroups(it) => reply::<TopicGroups>(explain::groups(broker, &it)),

        Request::CreateTopic(it) => reply::<CreateTopic>(admin::create_topic(broker, it).await?),
        Request::CountMessages(it) => reply::<CountMessages>(admin::count(broker, &it)?),
        Request::DescribeTopic(it) => reply::<DescribeTopic>(admin::describe(broker, &it)?),
        Request::ListTopics(_) => reply::<ListTopics>(admin::list(broker)),
        Request::SetTopic(it) => reply::<SetTopic>(admin::set(broker, it).await?),
        Request::TopicSettings(it) => reply::<TopicSettings>(admin::settings(broker, &it)?),
        Request::DeleteTopic(it) => reply::<DeleteTopic>(topic_deletion::delete(broker, it).await?),
        Request::RestoreTopic(it) => {
            reply::<RestoreTopic>(topic_deletion::restore(broker, it).await?)
        }
        Request::ListDeletedTopics(_) => reply::<ListDeletedTopics>(topic_deletion::list(broker)),

        Request::JoinGroup(it) => reply::<JoinGroup>(join::join(broker, it).await?),
        Request::LeaveGroup(it) => reply::<LeaveGroup>(join::leave(broker, &it)),
        Request::LeaseQueues(it) => reply::<LeaseQueues>(lease::lease(broker, it).await?),
        Request::ListGroups(_) => reply::<ListGroups>(group_admin::list(broker)),
        Request::DescribeGroup(it) => {
            reply::<DescribeGroup>(group_admin::describe(broker, it).await?)
        }
        Request::DeleteGroup(it) => reply::<DeleteGroup>(group_admin::delete(broker, it).await?),
        Request::AskMember(it) => reply::<AskMember>(questions::ask(broker, it).await?),
        Request::AwaitQuestions(it) => reply::<AwaitQuestions>(questions::wait(broker, it).await?),
        Request::AnswerQuestion(it) => reply::<AnswerQuestion>(questions::answer(broker, it)),

        Request::BeginUpload(it) => reply::<BeginUpload>(upload::begin(broker, it).await?),
        Request::UploadChunk(it) => {
            reply::<UploadChunk>(upload::chunk(broker, it, frame.body).await?)
        }
        Request::FinishUpload(it) => reply::<FinishUpload>(upload::finish(broker, it).await?),
        Request::ChangePlugin(it) => reply::<ChangePlugin>(plugin_admin::change(broker, it).await?),
        Request::ReplayPlugin(it) => reply::<ReplayPlugin>(replay::replay(broker, it).await?),
        Request::ListPlugins(_) => reply::<ListPlugins>(plugin_admin::list(broker)),
        Request::DescribePlugin(it) => {
            reply::<DescribePlugin>(plugin_admin::describe(broker, it).await?)
        }
        Request::PluginLogs(it) => reply::<PluginLogs>(plugin_logs::logs(broker, it)?),
        Request::ChangeBindings(it) => reply::<ChangeBindings>(bindings::change(broker, it).await?),
        Request::ListBindings(_) => reply::<ListBindings>(bindings::list(broker)),
        Request::BindingStates(_) => reply::<BindingStates>(bindings::states(broker)),
        Request::PluginHealth(_) => reply::<PluginHealth>(health::health(broker)),
        Request::PluginFallBacks(_) => reply::<PluginFallBacks>(health::fall_backs(broker)),
        Request::PluginUsers(it) => reply::<PluginUsers>(users::users(broker, it).await?),
        Request::TrialMoves(it) => reply::<TrialMoves>(trials::moves(broker, &it)?),

        Request::SetGroup(it) => reply::<SetGroup>(group_settings::set(broker, it).await?),
        Request::Reconsume(it) => reply::<Reconsume>(retry::reconsume(broker, it).await?),
        Request::ResendDeadLetters(it) => {
            reply::<ResendDeadLetters>(retry::resend(broker, it).await?)
        }

        Request::WaitFigures(_) => reply::<WaitFigures>(wait_figures::figures(broker)),
        Request::Status(_) => reply::<Status>(status::status(broker)),
        Request::DescribeConfig(_) => reply::<DescribeConfig>(status::config(broker)),

        // Taken by the transport, answered by `subscribe.rs` with many frames, or a name server's.
        it @ (Request::Cancel(_)
        | Request::Credit(_)
        | Request::Subscribe(_)
        | Request::RegisterBroker(_)
        | Request::ConfirmBroker(_)
        | Request::PublishTopics(_)
        | Request::Route(_)
        | Request::Brokers(_)) => Err(crate::reply::of_a_name_server(it.kind())),
    }
}

fn reply<O: Operation>(reply: O::Reply) -> Result<Outgoing, WireError> {
    Ok(Outgoing::reply::<O>(&reply, Vec::new())?)
}
