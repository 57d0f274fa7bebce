//! `quern consume --pop`: takes messages one by one, and acknowledges each once it is printed, or its command
//! has succeeded.

use std::time::Duration;

use quern_client::{Client, Delivery, Filter, SimpleConsumer};

use crate::consume::Printing;
use crate::exec;
use crate::failure::Failure;
use crate::member::try_filter;
use crate::read::Begin;
use crate::start::Stop;

/// What to take.
pub(crate) struct Plan {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) filter: Filter,
    pub(crate) begin: Begin,
    pub(crate) invisible: Duration,
    pub(crate) in_order: bool,
    pub(crate) follow: bool,
}

/// Without `follow`, nothing for so long means that there is nothing.
const NOTHING: Duration = Duration::from_secs(1);

pub(crate) async fn run(
    client: &Client,
    plan: Plan,
    printing: &mut Printing,
) -> Result<(), Failure> {
    // Or nothing might be there before the filter is refused, which may take its compiler a while.
    try_filter(client, &plan.group, (&plan.topic, &plan.filter)).await?;
    let mut consumer = client.simple_consumer(&plan.group);
    consumer = match plan.begin {
        Begin::First => consumer,
        Begin::Last => consumer.from_last(),
        Begin::Time(_) | Begin::Offset(_) => {
            return Err(Failure::usage(
                "--pop begins at first or last; elsewhere: quern group reset",
            ));
        }
    };
    if plan.in_order {
        consumer = consumer.in_order();
    }
    // One at a time: what lies here would be hidden from the others, and its time runs.
    let consumer = consumer.batch(1).invisible(plan.invisible);
    let consumer = consumer.subscribe(&plan.topic, plan.filter);
    let mut consumer = consumer.start().await?;
    let mut stop = Stop::listen()?;
    while printing.left > 0 {
        let delivery = tokio::select! {
            next = next(&mut consumer, plan.follow) => next?,
            () = stop.asked() => return Ok(()),
        };
        let Some(delivery) = delivery else {
            return Ok(());
        };
        deal_with(delivery, plan.invisible, printing).await?;
    }
    Ok(())
}

async fn next(consumer: &mut SimpleConsumer, follow: bool) -> Result<Option<Delivery>, Failure> {
    if follow {
        return Ok(Some(consumer.receive().await?));
    }
    match tokio::time::timeout(NOTHING, consumer.receive()).await {
        Ok(delivery) => Ok(Some(delivery?)),
        Err(_) => Ok(None),
    }
}

/// Hidden for as long as its command takes.
async fn deal_with(
    mut delivery: Delivery,
    invisible: Duration,
    printing: &mut Printing,
) -> Result<(), Failure> {
    let Some(command) = printing.exec.clone() else {
        printing.take(std::slice::from_ref(delivery.message()))?;
        return Ok(delivery.ack().await?);
    };
    let message = delivery.message().clone();
    let mut work = std::pin::pin!(exec::consume(&command, &message));
    let failed = loop {
        tokio::select! {
            failed = &mut work => break failed?,
            () = tokio::time::sleep(invisible / 2) => delivery.extend(invisible).await?,
        }
    };
    printing.count(1);
    match failed {
        None => delivery.ack().await?,
        Some(why) => {
            eprintln!("{why}");
            delivery.nack(invisible).await?;
        }
    }
    Ok(())
}
