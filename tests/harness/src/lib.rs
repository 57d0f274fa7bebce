//! Starts real `quern` processes, waits for what they say, stops and kills them.
//!
//! Every test gets a directory and a development CA of its own, and ports nobody else has. When a
//! test fails, what its processes said is in the failure.

mod ports;

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

pub use crate::ports::free_port;

/// Longest anything here is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory, a development CA and the binary under test.
#[derive(Debug)]
pub struct World {
    quern: PathBuf,
    dir: tempfile::TempDir,
}

impl World {
    /// `quern` is the binary: `env!("CARGO_BIN_EXE_quern")`.
    pub fn new(quern: &str) -> Result<Self> {
        Ok(Self {
            quern: PathBuf::from(quern),
            dir: tempfile::tempdir()?,
        })
    }

    /// A place for files of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `quern` with these arguments, its home here.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.quern);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; one that does not end is killed and told.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.finish(self.command(args))
    }

    /// The same with a command that has been made ready otherwise.
    pub fn finish(&self, command: Command) -> Result<Output> {
        self.finish_within(command, PATIENCE)
    }

    /// The same with one that may take longer.
    pub fn finish_within(&self, mut command: Command, patience: Duration) -> Result<Output> {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = pid_of(&child)?;
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || ended.send(child.wait_with_output()));
        match end.recv_timeout(patience) {
            Ok(output) => Ok(output?),
            Err(_) => {
                rustix::process::kill_process(pid, Signal::KILL)?;
                bail!("{command:?} did not end within {patience:?}")
            }
        }
    }

    /// Runs a command that must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        ensure!(output.status.success(), "quern {args:?}: {}", said(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same, with something to read.
    pub fn ok_with_input(&self, args: &[&str], input: &[u8]) -> Result<String> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "quern {args:?}: {}", said(&output));
        // Written before the child ended, or the child would have said why not.
        let _ = writer.join();
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command that must fail with this exit code and name this error code.
    pub fn fails(&self, args: &[&str], exit: i32, code: &str) -> Result<String> {
        let output = self.run(args)?;
        let text = said(&output);
        ensure!(
            output.status.code() == Some(exit) && text.contains(code),
            "quern {args:?} should exit with {exit} and {code}: {text}"
        );
        Ok(text)
    }

    /// Starts a process that serves, and waits until it says this on stderr.
    pub fn start(&self, args: &[&str], until: &str) -> Result<Process> {
        self.start_command(self.command(args), until)
    }

    /// The same with a command that has been made ready otherwise.
    pub fn start_command(&self, mut command: Command, until: &str) -> Result<Process> {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Ok(mut lines) = heard.lock() {
                    lines.push(line);
                }
            }
        });
        let mut process = Process { child, lines };
        process.wait_for(until)?;
        Ok(process)
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Pid::from_raw(i32::try_from(child.id())?).context("a process has an id")
}

/// How a command ended and what it said, for a failure's text.
pub fn said(output: &Output) -> String {
    format!(
        "{} | {} | {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let lines = self.lines.lock();
        lines.map(|lines| lines.join("\n")).unwrap_or_default()
    }

    fn wait_for(&mut self, text: &str) -> Result<()> {
        wait_until(&format!("it to say {text:?}"), || {
            if self.said().contains(text) {
                return Ok(true);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}: {}", self.said());
            }
            Ok(false)
        })
    }

    /// Stops it until it is sent the signal to go on, or sends it another one.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(pid_of(&self.child)?, signal)?;
        Ok(())
    }

    /// kill -9.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(mut self) -> Result<Option<i32>> {
        rustix::process::kill_process(pid_of(&self.child)?, Signal::TERM)?;
        let mut code = None;
        wait_until("it to end", || {
            let status = self.child.try_wait()?;
            code = status.and_then(|status| status.code());
            Ok(status.is_some())
        })?;
        Ok(code)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until it is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !so()? {
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "polling a process, with a deadline"
        )]
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What a process says when it serves.
const STARTED: &str = "Ctrl-C drains";
/// Segments of a test are small.
const SEGMENT: [&str; 2] = ["--segment-size", "8388608"];

/// A broker alone, at a name server of others.
#[derive(Debug)]
pub struct Broker {
    args: Vec<String>,
}

impl Broker {
    /// Chooses a port; does not start yet. Its data is in a directory of its name.
    pub fn new(world: &World, name: &str, namesrv: &str) -> Result<Self> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let data = world.path(name).to_string_lossy().into_owned();
        let args = [
            "start",
            "--broker-only",
            "--name",
            name,
            "--namesrv",
            namesrv,
            "--listen",
            &listen,
            "--data",
            &data,
        ];
        let args = args.iter().chain(&SEGMENT);
        Ok(Self {
            args: args.map(|it| (*it).to_owned()).collect(),
        })
    }

    /// Starts it, on the same port and with the same data each time; returns when it serves.
    pub fn start(&self, world: &World) -> Result<Process> {
        self.start_that_logs(world, "warn")
    }

    /// The same, and what it logs is of this level.
    pub fn start_that_logs(&self, world: &World, level: &str) -> Result<Process> {
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let mut command = world.command(&args);
        command.env("QUERN_LOG", level);
        world.start_command(command, STARTED)
    }
}

/// A node with both roles, on ports of its own.
#[derive(Debug)]
pub struct Node {
    /// `HOST:PORT` of the name server.
    pub namesrv: String,
    /// `HOST:PORT` of the broker.
    pub broker: String,
    data: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Chooses ports; does not start yet.
    pub fn new(world: &World, name: &str) -> Result<Self> {
        Self::at(world.path(name))
    }

    /// The same, its data in this directory.
    pub fn at(data: PathBuf) -> Result<Self> {
        Ok(Self {
            namesrv: format!("127.0.0.1:{}", free_port()?),
            broker: format!("127.0.0.1:{}", free_port()?),
            data,
            process: None,
        })
    }

    /// Where its log lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts it, with arguments besides the usual ones; returns when it is registered.
    pub fn start(&mut self, world: &World, more: &[&str]) -> Result<()> {
        let data = self.data.to_string_lossy().into_owned();
        let segment = match more.contains(&SEGMENT[0]) {
            true => &[][..],
            false => &SEGMENT,
        };
        let args = [&self.args(&data)[..], segment, more].concat();
        self.process = Some(world.start(&args, STARTED)?);
        wait_until("the broker to be registered", || {
            let output = world.run(&["topic", "ls", "--namesrv", &self.namesrv, "-o", "json"])?;
            let created = world.run(&["topic", "create", "ready", "--namesrv", &self.namesrv])?;
            Ok(output.status.success() && matches!(created.status.code(), Some(0 | 4)))
        })
    }

    /// A start of it that must fail with this exit code and name this.
    pub fn refuses(&self, world: &World, exit: i32, code: &str) -> Result<String> {
        let data = self.data.to_string_lossy().into_owned();
        world.fails(&self.args(&data), exit, code)
    }

    fn args<'a>(&'a self, data: &'a str) -> [&'a str; 7] {
        [
            "start",
            "--data",
            data,
            "--listen",
            &self.broker,
            "--namesrv-listen",
            &self.namesrv,
        ]
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it runs")?.kill()
    }

    /// Takes everything away from its directory but the entries of these names. It does not run.
    pub fn strip(&self, kept: &[&str]) -> Result<()> {
        for entry in std::fs::read_dir(&self.data)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            match path.is_dir() {
                _ if kept.iter().any(|it| name == *it) => {}
                true => std::fs::remove_dir_all(path)?,
                false => std::fs::remove_file(path)?,
            }
        }
        Ok(())
    }

    /// SIGTERM, and its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.process.take().context("it runs")?.terminate()
    }

    /// What the process has said.
    pub fn said(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }
}
