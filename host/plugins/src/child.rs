//! The two children. Bytes of a stranger are compiled in a process of their own, which has bounded
//! memory and time, no files and no network, and is asked to do one thing: bytes in on stdin, an
//! answer out on stdout. A second one, with other bounds, runs what the first has made for the
//! first time.
//!
//! ```text
//! compile   stdin   the component                          stdout  machine code
//! load      the same, of one that serves already: somebody waits, so it does not let everybody else go first
//! try       stdin   u8 kind, u32 n, n bytes of cases,      stdout  a report, JSON
//!                   machine code
//! answer    8  "QRCHILD1"    1  0 = done, 1 = refused, with u16 code and text    the rest
//! ```
//!
//! Its arguments: what for, and a length, of the component or of any of its class, which says what it may use.
//!
//! The program is this very one, or the `quern` beside it: its `main` calls [`plugin_child_main`]
//! before anything else.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use rustix::process::{Resource, Rlimit, getpriority_process, nice, setrlimit};

use crate::artefact::Artefact;
use crate::engine;
use crate::error::LoadError;
use crate::limits::{self, Class};
use crate::plugin::Kind;
use crate::trial::{self, Report};

/// Who compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// A program whose `main` calls [`plugin_child_main`] first, run as a child with limits.
    Child(PathBuf),
    /// This process, without limits: for components that were built together with it.
    InProcess,
}

/// First argument of a child.
const COMMAND: &str = "plugin-child";
const COMPILE: &str = "compile";
const LOAD: &str = "load";
const TRY: &str = "try";
const MAGIC: &[u8; 8] = b"QRCHILD1";

/// To be called first in `main`: does the work of a child and ends the process if that is what it
/// was started for, else returns at once.
pub fn plugin_child_main() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != COMMAND) {
        return;
    }
    let task = args.next().unwrap_or_default();
    let length = args.next().unwrap_or_default();
    let length = length.to_str().and_then(|it| it.parse().ok());
    let done = match (task.to_str(), length.map(limits::class)) {
        (Some(COMPILE), Some(class)) => {
            last_in_line();
            restrict(&class.compiler).and_then(|()| answer(read_and_compile))
        }
        (Some(LOAD), Some(class)) => {
            restrict(&class.compiler).and_then(|()| answer(read_and_compile))
        }
        (Some(TRY), Some(class)) => {
            last_in_line();
            restrict(&class.trial).and_then(|()| answer(|input| read_and_try(class, input)))
        }
        _ => Err(io::Error::other("what for?")),
    };
    if let Err(error) = &done {
        eprintln!("{COMMAND}: {error}");
    }
    std::process::exit(i32::from(done.is_err()))
}

/// What a child may use.
pub(crate) struct Rlimits {
    pub(crate) address_space: u64,
    pub(crate) data: u64,
    pub(crate) cpu_seconds: u64,
    /// Open at once, the three pipes included; and how long one may grow.
    pub(crate) files: u64,
    pub(crate) file_bytes: u64,
}

/// Everybody else's processes are at 0.
const NICE: i32 = 10;

/// From here on everybody else goes first.
fn last_in_line() {
    // Of those that go last already, none goes later.
    let now = getpriority_process(None).unwrap_or(0);
    if now < NICE {
        // A child that cannot be nice is limited all the same.
        let _ = nice(NICE - now);
    }
}

/// From here on so much and no more.
fn restrict(limits: &Rlimits) -> io::Result<()> {
    for (resource, most) in [
        (Resource::As, limits.address_space),
        (Resource::Data, limits.data),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Core, 0),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nofile, limits.files),
    ] {
        let most = Some(most);
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    Ok(())
}

fn answer(work: impl FnOnce(&[u8]) -> Result<Vec<u8>, LoadError>) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let answer = match work(&input) {
        Ok(answer) => [&MAGIC[..], &[0], &answer].concat(),
        Err(error) => {
            let text = error.to_string();
            [
                &MAGIC[..],
                &[1],
                &error.code().to_le_bytes(),
                text.as_bytes(),
            ]
            .concat()
        }
    };
    let mut out = io::stdout().lock();
    out.write_all(&answer)?;
    out.flush()
}

fn read_and_compile(component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let engine = engine::compiling().map_err(|error| LoadError::Child(format!("{error:#}")))?;
    let code = engine.precompile_component(component);
    code.map_err(|error| LoadError::Component(format!("{error:#}")))
}

fn read_and_try(class: &'static Class, input: &[u8]) -> Result<Vec<u8>, LoadError> {
    let short = || LoadError::Child("the question is cut short".to_owned());
    let (kind, rest) = input.split_first().ok_or_else(short)?;
    let kind = Kind::ALL.get(usize::from(*kind)).ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (vectors, code) = rest.split_at_checked(length).ok_or_else(short)?;
    let report = trial::run(*kind, class, &Artefact::compiled(code.to_vec()), vectors)?;
    serde_json::to_vec(&report).map_err(|error| LoadError::Child(error.to_string()))
}

/// What is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Something new: nobody waits for it yet.
    ToTry,
    /// What messages wait for.
    ToServe,
}

impl Compiler {
    /// Machine code for a component.
    pub(crate) fn compile(&self, component: &[u8], wanted: Wanted) -> Result<Artefact, LoadError> {
        let code = match self {
            Self::InProcess => read_and_compile(component)?,
            Self::Child(program) => {
                let class = limits::class(component.len());
                let task = Task {
                    name: match wanted {
                        Wanted::ToTry => COMPILE,
                        Wanted::ToServe => LOAD,
                    },
                    class,
                    limits: &class.compiler,
                };
                ask(program, &task, component.to_vec())?
            }
        };
        Ok(Artefact::compiled(code))
    }

    /// Runs it for the first time.
    pub(crate) fn try_out(
        &self,
        kind: Kind,
        class: &'static Class,
        artefact: &Artefact,
        vectors: &[u8],
    ) -> Result<Report, LoadError> {
        let Self::Child(program) = self else {
            return trial::run(kind, class, artefact, vectors);
        };
        let length = vectors.len() as u32;
        let question = [
            &[kind as u8][..],
            &length.to_le_bytes(),
            vectors,
            artefact.code(),
        ];
        let task = Task {
            name: TRY,
            class,
            limits: &class.trial,
        };
        let answer = ask(program, &task, question.concat())?;
        serde_json::from_slice(&answer).map_err(|error| LoadError::Child(error.to_string()))
    }
}

/// What a child is started for, and what it may use.
struct Task {
    name: &'static str,
    class: &'static Class,
    limits: &'static Rlimits,
}

/// Two compilers at once would take both cores of a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn ask(program: &Path, task: &Task, question: Vec<u8>) -> Result<Vec<u8>, LoadError> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |what: &str, error: io::Error| {
        LoadError::Child(format!("{} {what}: {error}", program.display()))
    };
    let mut child = Command::new(program)
        .args([COMMAND, task.name])
        .arg(task.class.component.to_string())
        .env_clear()
        // What the allocator of `quern` sets aside in one piece would use up the limit: 64 MiB, in KiB.
        .env("MIMALLOC_ARENA_RESERVE", "65536")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("does not start", error))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(LoadError::Child("it has no pipes".to_owned()));
    };
    thread::spawn(move || {
        // A child that dies early says so by its status.
        let _ = stdin.write_all(&question);
    });
    let (said, answer) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(limits::ANSWER_OF_CHILD).read_to_end(&mut bytes);
        // Nobody listens any more if time was up.
        let _ = said.send(read.map(|_| bytes));
    });
    let answer = answer.recv_timeout(limits::CHILD_WALL);
    if !matches!(answer, Ok(Ok(_))) {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed("is lost", error))?;
    match answer {
        Ok(Ok(bytes)) => understood(task, status, bytes),
        Ok(Err(error)) => Err(failed("cannot be read", error)),
        Err(_) => Err(LoadError::Budget(format!(
            "it was not done after {} s",
            limits::CHILD_WALL.as_secs()
        ))),
    }
}

fn understood(task: &Task, status: ExitStatus, mut bytes: Vec<u8>) -> Result<Vec<u8>, LoadError> {
    let head = MAGIC.len() + 1;
    if !status.success() || bytes.len() < head || !bytes.starts_with(MAGIC) {
        return Err(LoadError::Budget(ended(task, status)));
    }
    let refused = bytes[MAGIC.len()] != 0;
    bytes.drain(..head);
    if !refused {
        return Ok(bytes);
    }
    let (code, text) = match bytes.split_first_chunk() {
        Some((code, text)) => (u16::from_le_bytes(*code), text),
        None => (0, &bytes[..]),
    };
    Err(LoadError::Refused {
        code,
        text: String::from_utf8_lossy(text).into_owned(),
    })
}

/// Signals that tell which limit it was.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

fn ended(task: &Task, status: ExitStatus) -> String {
    let Task { name, limits, .. } = task;
    match status.signal() {
        Some(SIGXCPU | SIGKILL) => format!(
            "the child process ({name}) used its {} s of processor time",
            limits.cpu_seconds
        ),
        Some(SIGABRT | SIGSEGV) => format!("the child process ({name}) ran out of memory"),
        _ => format!("the child process ({name}) ended with {status}"),
    }
}
