//! Brokers and the name server they register with: connections that end and connections that are lost.

use anyhow::{Context as _, Result, bail, ensure};
use quern_harness::{Broker, Process, World, free_port, wait_until};
use rustix::process::Signal;

use crate::QUERN;

/// A name server that says who comes and goes, and where it is.
fn name_server(world: &World) -> Result<(Process, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let args = ["start", "--namesrv-only", "--namesrv-listen", &address];
    let mut command = world.command(&args);
    command.env("QUERN_LOG", "info");
    Ok((world.start_command(command, "Ctrl-C")?, address))
}

fn wait_for(process: &Process, text: &str, times: usize) -> Result<()> {
    wait_until(&format!("{text:?} for the time {times}"), || {
        Ok(process.said().matches(text).count() >= times)
    })
    .with_context(|| process.said())
}

/// How often a broker says that it is registered, be it anew or as it was.
fn registrations(broker: &Process) -> usize {
    let said = broker.said();
    let lines = said.lines().filter(|it| it.contains(" registered"));
    lines.filter(|it| !it.contains("not registered")).count()
}

/// A broker that says goodbye is gone at once, one that is killed once its connection is lost.
#[test]
fn a_broker_that_ends_takes_its_routes_with_it() -> Result<()> {
    let world = World::new(QUERN)?;
    let (namesrv, at) = name_server(&world)?;
    let broker = Broker::new(&world, "broker-a", &at)?;
    let create = ["topic", "create", "t", "--namesrv", &at];
    let route = ["topic", "route", "t", "--namesrv", &at];
    let running = broker.start(&world)?;
    wait_for(&namesrv, "broker registered", 1)?;
    world.ok(&create)?;
    world.ok(&route)?;
    running.terminate()?;
    wait_for(&namesrv, "broker disconnected", 1)?;
    world.fails(&route, 3, "Q-2003")?;
    ensure!(
        !namesrv.said().contains("broker lost"),
        "{}",
        namesrv.said()
    );

    let running = broker.start(&world)?;
    wait_for(&namesrv, "broker registered", 2)?;
    world.ok(&route)?;
    running.kill()?;
    wait_for(&namesrv, "forgotten", 1)?;
    world.fails(&route, 3, "Q-2003")?;
    Ok(())
}

/// One that comes back in time keeps its routes, and its table is not sent again.
#[test]
fn a_broker_that_comes_back_in_time_does_not_register_again() -> Result<()> {
    let world = World::new(QUERN)?;
    let (namesrv, at) = name_server(&world)?;
    let broker = Broker::new(&world, "broker-a", &at)?;
    let running = broker.start_that_logs(&world, "warn,quern_broker=debug")?;
    wait_for(&namesrv, "broker registered", 1)?;
    world.ok(&["topic", "create", "t", "--namesrv", &at])?;
    // The time to come back is short; a machine that is too busy gets another chance.
    for lost in 1..=8 {
        running.signal(Signal::STOP)?;
        wait_for(&namesrv, "broker lost", lost).with_context(|| running.said())?;
        let before = registrations(&running);
        running.signal(Signal::CONT)?;
        wait_until("it to be registered", || {
            Ok(registrations(&running) > before)
        })
        .with_context(|| running.said())?;
        world.ok(&["topic", "route", "t", "--namesrv", &at])?;
        if running.said().contains("registered as it is") {
            let said = namesrv.said();
            let anew = said.matches("forgotten").count();
            ensure!(
                said.matches("broker registered").count() == 1 + anew,
                "{said}"
            );
            return Ok(());
        }
    }
    bail!("it always registered anew: {}", running.said())
}

/// Clients go where the broker says it is, not where it listens.
#[test]
fn clients_are_sent_to_the_address_that_is_advertised() -> Result<()> {
    let world = World::new(QUERN)?;
    let (_namesrv, at) = name_server(&world)?;
    let port = free_port()?;
    let (listen, advertised) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let data = world.path("data").to_string_lossy().into_owned();
    let start = ["start", "--broker-only", "--namesrv", &at, "--data", &data];
    let where_it_is = ["--listen", &listen, "--advertise", &advertised];
    let _broker = world.start(&[&start[..], &where_it_is].concat(), "Ctrl-C")?;
    wait_until("the topic to be made", || {
        let create = world.run(&["topic", "create", "t", "--namesrv", &at])?;
        Ok(create.status.success())
    })?;
    let route = world.ok(&["topic", "route", "t", "--namesrv", &at])?;
    ensure!(route.contains(&advertised), "{route}");
    world.ok(&["produce", "t", "there", "--namesrv", &at])?;
    let got = world.ok(&["consume", "t", "--namesrv", &at])?;
    ensure!(got.trim() == "there", "{got}");
    Ok(())
}
