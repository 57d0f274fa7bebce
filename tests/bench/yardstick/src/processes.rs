//! Processes of a turn: the broker's and its driver. Each is stopped by its own id, whatever happens.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::interrupt;
use crate::place::last_words;
use crate::protocol::Answer;

/// Longest a server takes until its port is open.
const START: Duration = Duration::from_secs(60);

/// A process of a broker.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) command: Command,
    /// The next process is started when TCP connections are taken here.
    pub(crate) opens: Option<String>,
}

/// A process and where what it says is kept. Killed when dropped.
#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(name: &str, dir: &Path, command: &mut Command, is_asked: bool) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let said = open().with_context(|| format!("opening {}", log.display()))?;
        if is_asked {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(open()?);
        }
        // A group of its own: Ctrl-C is for the yardstick, which stops the rest.
        let child = command.stderr(said).process_group(0).spawn();
        let program = command.get_program().to_string_lossy().into_owned();
        let child = child.with_context(|| format!("{name}: `{program}` cannot be run"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}): {}", self.name, self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        last_words(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Servers(Vec<Process>);

impl Servers {
    pub(crate) fn start(servers: Vec<Server>, dir: &Path) -> Result<Self> {
        let mut running = Self(Vec::new());
        for mut server in servers {
            let process = Process::start(server.name, dir, &mut server.command, false)?;
            running.0.push(process);
            let began = Instant::now();
            while let Some(address) = &server.opens
                && TcpStream::connect(address).is_err()
            {
                running.check()?;
                ensure!(
                    began.elapsed() < START,
                    "{}: {address} is not open after {START:?}",
                    server.name
                );
                interrupt::check()?;
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        Ok(running)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(|it| it.child.id()).collect()
    }

    /// An error that tells what a process said that has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Process::check)
    }
}

/// What happens while a command is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time has passed.
    Glance,
    /// What is measured begins here.
    Joined,
}

/// A driver that waits for commands.
#[derive(Debug)]
pub(crate) struct Driver {
    process: Process,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Driver {
    pub(crate) fn start(mut command: Command, dir: &Path) -> Result<Self> {
        let mut process = Process::start("driver", dir, &mut command, true)?;
        let stdin = process.child.stdin.take().context("its stdin is piped")?;
        let stdout = process.child.stdout.take().context("its stdout is piped")?;
        let (sender, answers) = sync_channel(16);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with('{') && sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            process,
            stdin,
            answers,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Gives a command and waits for its answer. `watch` is told what happens meanwhile and ends the wait
    /// with its error.
    pub(crate) fn ask(
        &mut self,
        command: &str,
        within: Duration,
        watch: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<Answer> {
        let asked = writeln!(self.stdin, "{command}");
        if asked.is_err() {
            self.process.check()?;
        }
        asked.context("the driver takes no more commands")?;
        let began = Instant::now();
        loop {
            match self.answers.recv_timeout(interrupt::GLANCE) {
                Ok(line) => {
                    let answer: Answer = serde_json::from_str(&line)
                        .with_context(|| format!("the driver's answer `{line}` cannot be read"))?;
                    if answer.is_joined {
                        watch(Event::Joined)?;
                        continue;
                    }
                    return match answer.error {
                        Some(error) => bail!("{command}: {error}"),
                        None => Ok(answer),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let words = self.process.last_words();
                    bail!("the driver ended during `{command}`: {words}");
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            interrupt::check()?;
            watch(Event::Glance)?;
            ensure!(
                began.elapsed() < within,
                "`{command}` was not answered within {within:?}"
            );
        }
    }
}
