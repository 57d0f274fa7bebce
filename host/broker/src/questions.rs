//! Questions to members of groups this broker coordinates: `AskMember`, `AwaitQuestions`, `AnswerQuestion`. In memory
//! only: who asked waits, and asks again when this broker dies.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use quern_protocol::{
    AnswerQuestion, AnswerQuestionReply, AskMember, AskMemberReply, Asked, AwaitQuestions,
    AwaitQuestionsReply, Code, GroupName, MemberAnswer, MemberQuestion, WireError, limits as wire,
};
use tokio::sync::{Notify, oneshot};

use crate::{Broker, hold, limits, reply};

/// A question somebody waits for the answer to.
#[derive(Debug)]
struct Open {
    group: GroupName,
    /// Who is asked; `None` = whoever comes first.
    member: Option<String>,
    question: MemberQuestion,
    /// It has been told; who asked hears the answer.
    is_told: bool,
    answered: Option<oneshot::Sender<MemberAnswer>>,
}

impl Open {
    fn is_for(&self, group: &GroupName, member: &str) -> bool {
        let is_its = self.member.as_deref().is_none_or(|it| it == member);
        !self.is_told && self.group == *group && is_its
    }
}

/// By the number of each, drawn at random: who does not know it does not answer.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    open: Mutex<BTreeMap<u64, Open>>,
    /// Rings when there is another one.
    bell: Notify,
}

impl Questions {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        let open = self.open.lock();
        open.expect("no code that can panic runs under the questions lock")
    }

    /// Lets everybody look again: the broker is shutting down.
    pub(crate) fn wake_all(&self) {
        self.bell.notify_waiters();
    }

    /// What a member is asked and was not told yet; told from now on.
    fn tell(&self, group: &GroupName, member: &str) -> Vec<Asked> {
        let mut open = self.open();
        let its = open.iter_mut().filter(|(_, it)| it.is_for(group, member));
        let told = its.map(|(number, it)| {
            it.is_told = true;
            it.member = Some(member.to_owned());
            Asked {
                number: *number,
                question: it.question.clone(),
            }
        });
        told.collect()
    }
}

/// A question under way, forgotten when who asked does not wait any more.
struct UnderWay<'a> {
    questions: &'a Questions,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.questions.open().remove(&self.number);
    }
}

impl UnderWay<'_> {
    /// Who was told; `None` = nobody has come for it.
    fn told(&self) -> Option<String> {
        let open = self.questions.open();
        let told = open.get(&self.number).filter(|it| it.is_told)?;
        told.member.clone()
    }
}

pub(crate) async fn ask(broker: &Broker, request: AskMember) -> Result<AskMemberReply, WireError> {
    if request.wait_ms > limits::QUESTION_WAIT {
        let most = limits::QUESTION_WAIT;
        return Err(reply::bad_request(format!(
            "an answer is waited for {most} ms at most, not {}",
            request.wait_ms
        )));
    }
    if !broker.groups.has(&request.group, request.member.as_deref()) {
        let member = request.member.as_deref();
        return Err(reply::unknown_member(&request.group, member));
    }
    let (answered, answer) = oneshot::channel();
    let number = fastrand::u64(..);
    let under_way = {
        let mut open = broker.questions.open();
        if open.len() >= limits::QUESTIONS {
            let text = format!("{} questions to members wait for answers here", open.len());
            return Err(WireError::new(Code::RETRY_AFTER, text).after_ms(1_000));
        }
        let asked = Open {
            group: request.group.clone(),
            member: request.member.clone(),
            question: request.question,
            is_told: false,
            answered: Some(answered),
        };
        open.insert(number, asked);
        UnderWay {
            questions: &broker.questions,
            number,
        }
    };
    broker.questions.bell.notify_waiters();
    let over = tokio::time::sleep(Duration::from_millis(request.wait_ms.into()));
    let mut over = pin!(over);
    let mut answer = pin!(answer);
    loop {
        let mut rung = pin!(broker.questions.bell.notified());
        rung.as_mut().enable();
        if broker.is_draining() {
            return Err(reply::going_away());
        }
        tokio::select! {
            answer = &mut answer => {
                let member = under_way.told().unwrap_or_default();
                let answer = answer.map_err(|_| reply::broke_off())?;
                return Ok(AskMemberReply { member, answer });
            }
            () = over.as_mut() => return Err(silent(&under_way, &request.group, request.wait_ms)),
            () = rung => {}
        }
    }
}

fn silent(under_way: &UnderWay<'_>, group: &GroupName, waited_ms: u32) -> WireError {
    let text = match under_way.told() {
        Some(member) => {
            format!("member {member:?} of group \"{group}\" has not answered within {waited_ms} ms")
        }
        None => format!(
            "no member of group \"{group}\" that is asked has come for the question within {waited_ms} ms; clients of earlier releases never do"
        ),
    };
    WireError::new(Code::DEADLINE, text)
}

pub(crate) async fn wait(
    broker: &Broker,
    request: AwaitQuestions,
) -> Result<AwaitQuestionsReply, WireError> {
    let (group, member) = (&request.group, request.member.as_str());
    if !broker.groups.has(group, Some(member)) {
        return Err(reply::unknown_member(group, Some(member)));
    }
    let questions = &broker.questions;
    let look = || std::future::ready(Ok(questions.tell(group, member)));
    let wait = (request.wait_ms, wire::HELD_MS);
    let questions = hold::until_some(broker, wait, &questions.bell, look).await?;
    Ok(AwaitQuestionsReply { questions })
}

pub(crate) fn answer(broker: &Broker, request: AnswerQuestion) -> AnswerQuestionReply {
    let mut open = broker.questions.open();
    let answered = open.get_mut(&request.number);
    let answered = answered.and_then(|it| it.answered.take());
    // Who asked may have gone in this moment; then nobody hears it.
    let is_heard = answered.is_some_and(|it| it.send(request.answer).is_ok());
    AnswerQuestionReply { is_heard }
}
