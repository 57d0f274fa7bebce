//! Samples of what members of groups and their administrators say.

use quern_protocol::{
    AnswerQuestion, AnswerQuestionReply, AskMember, AskMemberReply, Asked, AwaitQuestions,
    AwaitQuestionsReply, DeleteGroup, DeleteGroupReply, DescribeGroup, DescribeGroupReply, Filter,
    GroupMember, GroupQueue, GroupSummary, JoinGroup, JoinGroupReply, Lease, LeaseQueues,
    LeaseQueuesReply, Leased, LeaveGroup, LeaveGroupReply, ListGroups, ListGroupsReply,
    MemberAnswer, MemberQuestion, MemberQueue, MemberState, QueueId, QueueOffset, ReadQueues,
    Selector, Share, Subscription, Taken,
};

use crate::{Samples, broker, group, topic};

pub(crate) fn groups(all: &mut Samples, lease: Lease) {
    let subscription = Subscription {
        topic: topic(),
        filter: Filter::tag("paid"),
        route: vec![ReadQueues {
            broker: broker(),
            queues: 8,
        }],
    };
    let join = JoinGroup {
        group: group(),
        member: "17@0badcafe".to_owned(),
        zone: "eu".to_owned(),
        weight: 1,
        strategy: Some(Selector::named("sticky")),
        subscriptions: vec![subscription],
        generation: 7,
        wait_ms: 3_000,
        again: None,
    };
    let joined = JoinGroupReply {
        generation: 8,
        members: 2,
        strategy: "sticky 0.1.0".to_owned(),
        session_ms: 10_000,
        shares: vec![Share {
            topic: topic(),
            broker: broker(),
            queues: vec![QueueId(0), QueueId(2)],
        }],
    };
    all.add(&join, &joined);
    let again = JoinGroup {
        zone: String::new(),
        weight: 0,
        strategy: None,
        subscriptions: Vec::new(),
        again: Some(0x0102_0304_0506_0708),
        ..join
    };
    all.request(&again, "request that says no more");
    let leave = LeaveGroup {
        group: group(),
        member: "17@0badcafe".to_owned(),
    };
    all.add(&leave, &LeaveGroupReply {});
    leases(all, lease);
    groups_described(all, lease);
}

fn leases(all: &mut Samples, lease: Lease) {
    let ask = LeaseQueues {
        group: group(),
        topic: topic(),
        member: "17@0badcafe".to_owned(),
        queues: vec![QueueId(0), QueueId(2)],
        release: vec![lease],
        wait_ms: 3_000,
    };
    let answer = LeaseQueuesReply {
        lease_ms: 10_000,
        leased: vec![Leased {
            lease,
            committed: Some(QueueOffset(300)),
        }],
        taken: vec![Taken {
            queue: QueueId(0),
            member: "18@0badcafe".to_owned(),
            free_in_ms: 900,
        }],
    };
    all.add(&ask, &answer);
}

fn groups_described(all: &mut Samples, lease: Lease) {
    let summary = GroupSummary {
        group: group(),
        members: 2,
        topics: 1,
    };
    all.add(
        &ListGroups {},
        &ListGroupsReply {
            groups: vec![summary],
        },
    );
    let member = GroupMember {
        member: "17@0badcafe".to_owned(),
        zone: "eu".to_owned(),
        weight: 1,
        silent_ms: 20,
        subscriptions: vec![(topic(), Filter::All)],
    };
    let at = GroupQueue {
        topic: topic(),
        queue: lease.queue,
        committed: Some(QueueOffset(300)),
        min: QueueOffset(0),
        max: QueueOffset(301),
        behind_ms: Some(40),
        owner: Some("17@0badcafe".to_owned()),
    };
    let described = DescribeGroupReply {
        generation: 8,
        strategy: "sticky 0.1.0".to_owned(),
        members: vec![member],
        queues: vec![at],
    };
    all.add(&DescribeGroup { group: group() }, &described);
    all.add(
        &DeleteGroup { group: group() },
        &DeleteGroupReply { queues: 3 },
    );
}

/// What members are asked, and what they answer.
pub(crate) fn questions(all: &mut Samples) {
    let consume = MemberQuestion::Consume {
        topic: topic(),
        broker: broker(),
        queue: QueueId(2),
        offset: QueueOffset(300),
    };
    let failed = MemberAnswer::Consumed {
        took_ms: 300,
        failed: Some("no stock".to_owned()),
    };
    let ask = AskMember {
        group: group(),
        member: Some("17@0badcafe".to_owned()),
        question: consume.clone(),
        wait_ms: 3_000,
    };
    let asked = AskMemberReply {
        member: "17@0badcafe".to_owned(),
        answer: failed.clone(),
    };
    all.add(&ask, &asked);
    let wait = AwaitQuestions {
        group: group(),
        member: "17@0badcafe".to_owned(),
        wait_ms: 15_000,
    };
    let question = |number, question| Asked { number, question };
    let questions = vec![question(300, MemberQuestion::State), question(301, consume)];
    all.add(&wait, &AwaitQuestionsReply { questions });
    let queue = MemberQueue {
        topic: topic(),
        broker: broker(),
        queue: QueueId(2),
        committed: Some(QueueOffset(300)),
        read: QueueOffset(310),
        cached: 10,
        cached_bytes: 4_096,
        at_work: 1,
        read_ago: Some(20),
        consumed_ago: None,
        lease_left: 9_000,
    };
    let state = MemberState {
        software: "quern/0.1.0".to_owned(),
        started_at: 1_700_000_000_000,
        properties: vec![("weight".to_owned(), "1".to_owned())],
        subscriptions: vec![(topic(), Filter::All)],
        queues: vec![queue],
    };
    let answer = |answer| AnswerQuestion {
        number: 300,
        answer,
    };
    let state = answer(MemberAnswer::State(Box::new(state)));
    all.add(&state, &AnswerQuestionReply { is_heard: true });
    all.request(&answer(failed), "request consumed");
    let unable = MemberAnswer::Unable("no listener".to_owned());
    all.request(&answer(unable), "request unable");
}
