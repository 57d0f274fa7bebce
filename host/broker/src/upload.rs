//! `BeginUpload`, `UploadChunk`, `FinishUpload`: a component comes in and becomes a version of a name.
//!
//! Bytes are on the disk before the log names them, and what the log does not name is removed at the next
//! start; so a process that ends between any two steps leaves an upload that can go on, or none. Compiling
//! and trying happen in child processes, before anything is promised and without a lock: whoever wants to
//! roll back meanwhile does not wait.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quern_plugins::{COMPONENT_LIMIT, Components, Digest, Kind, Report, Runtime, Step};
use quern_protocol::{
    BeginUpload, BeginUploadReply, Code, ComponentDigest, FinishUpload, FinishUploadReply,
    PluginAbout, PluginKind, PluginName, RecordKind, UploadChunk, UploadChunkReply, WireError,
    limits as wire,
};

use crate::plugins::{Named, PluginRecord, Version};
use crate::{Broker, limits, reply};

pub(crate) async fn begin(
    broker: &Arc<Broker>,
    request: BeginUpload,
) -> Result<BeginUploadReply, WireError> {
    takes_uploads(broker)?;
    fits(request.size)?;
    let digest = Digest::from(request.digest.0);
    let received = on_disk(broker, move |it| it.received(&digest)).await?;
    Ok(BeginUploadReply { received })
}

pub(crate) async fn chunk(
    broker: &Arc<Broker>,
    request: UploadChunk,
    body: Bytes,
) -> Result<UploadChunkReply, WireError> {
    takes_uploads(broker)?;
    if body.len() > wire::UPLOAD_CHUNK {
        return Err(reply::bad_request(format!(
            "a piece of an upload has at most {} bytes, not {}",
            wire::UPLOAD_CHUNK,
            body.len()
        )));
    }
    fits(request.at.saturating_add(body.len() as u64))?;
    let digest = Digest::from(request.digest.0);
    let receive = move |it: &Components| it.receive(&digest, request.at, &body);
    let received = on_disk(broker, receive).await?;
    Ok(UploadChunkReply { received })
}

pub(crate) async fn finish(
    broker: &Arc<Broker>,
    request: FinishUpload,
) -> Result<FinishUploadReply, WireError> {
    takes_uploads(broker)?;
    let FinishUpload {
        digest,
        name,
        version,
    } = request;
    if let Some(known) = brought_back(broker, &name, &digest).await? {
        return Ok(known);
    }
    let bytes = take(broker, digest).await?;
    let size = bytes.len() as u64;
    let runtime = broker.shelf.runtime().clone();
    let admit = move || {
        let step = |step: Step| tracing::debug!(%digest, ?step, "letting a plugin in");
        let admitted = runtime.admit(&bytes, step);
        admitted.map(|(_, report)| (report, bytes))
    };
    let admitted = blocking(admit).await?;
    let (report, bytes) = admitted.map_err(|error| reply::not_loaded(&error))?;
    let about = about(report);

    let one_change_at_a_time = broker.plugin_changes().await;
    let named = broker.state.plugins.find(&name).unwrap_or_default();
    if let Some(known) = named.version_of(&digest) {
        return known_version(&named, known);
    }
    may_be_added(broker, &name, &named, &about)?;
    let number = number(&name, &named, version)?;
    let keep = move |it: &Components| it.keep(&Digest::from(digest.0), &bytes);
    on_disk(broker, keep).await?;
    let added = Version {
        digest,
        size,
        added_at: broker.store.now_ms(),
        about: about.clone(),
    };
    let record = PluginRecord::Added(name.clone(), number, added);
    let turn = &one_change_at_a_time;
    broker.change(turn, RecordKind::Plugin, &record).await?;
    tracing::info!(plugin = %name, version = number, %digest, "a plugin was taken in");
    Ok(FinishUploadReply {
        version: number,
        is_new: true,
        about,
    })
}

/// These bytes are a version of this name already; should they have been lost here, they are kept again.
async fn brought_back(
    broker: &Arc<Broker>,
    name: &PluginName,
    digest: &ComponentDigest,
) -> Result<Option<FinishUploadReply>, WireError> {
    let Some(named) = broker.state.plugins.find(name) else {
        return Ok(None);
    };
    let Some(version) = named.version_of(digest) else {
        return Ok(None);
    };
    let bytes = take(broker, *digest).await?;
    let digest = Digest::from(digest.0);
    on_disk(broker, move |it| it.keep(&digest, &bytes)).await?;
    known_version(&named, version).map(Some)
}

fn known_version(named: &Named, version: u32) -> Result<FinishUploadReply, WireError> {
    let known = named.versions.get(&version);
    let known = known.ok_or_else(|| WireError::new(Code::NOT_FOUND, "the version is gone"))?;
    Ok(FinishUploadReply {
        version,
        is_new: false,
        about: known.about.clone(),
    })
}

async fn take(broker: &Arc<Broker>, digest: ComponentDigest) -> Result<Vec<u8>, WireError> {
    let taken = on_disk(broker, move |it| it.take(&Digest::from(digest.0))).await?;
    taken.ok_or_else(|| {
        let text = format!("the bytes that were sent are not {digest}, or not all of them");
        WireError::new(Code::PLUGIN_DIGEST, text)
    })
}

/// One name decides one kind of thing, and one language has one speaker.
fn may_be_added(
    broker: &Broker,
    name: &PluginName,
    named: &Named,
    about: &PluginAbout,
) -> Result<(), WireError> {
    let taken = |text: String| Err(WireError::new(Code::ALREADY_EXISTS, text));
    let reserved = |text: String| Err(WireError::new(Code::RESERVED_NAME, text));
    if Runtime::built_ins()
        .iter()
        .any(|it| it.name == name.as_str())
    {
        return reserved(format!("{name} is part of the broker; choose another name"));
    }
    if let Some(kind) = named.kind()
        && kind != about.kind
    {
        return taken(format!(
            "{name} is a {kind}, and this is a {}; choose another name",
            about.kind
        ));
    }
    if let Some(language) = about.language.as_deref() {
        let mut built_ins = Runtime::built_ins().iter();
        if built_ins.any(|it| it.language == Some(language)) {
            return reserved(format!(
                "the language {language} is the broker's own; name another in describe()"
            ));
        }
        let speaker = broker.state.plugins.speaker(language);
        if let Some(speaker) = speaker.filter(|it| it != name) {
            return taken(format!("the language {language} is spoken by {speaker}"));
        }
    }
    let names = broker.state.plugins.list().len();
    if named.newest == 0 && names >= limits::PLUGINS {
        return Err(reply::bad_request(format!(
            "this broker has plugins of {names} names, its limit"
        )));
    }
    if named.versions.len() >= limits::PLUGIN_VERSIONS {
        return Err(reply::bad_request(format!(
            "{name} has {} versions, the limit; remove one: quern plugin rm {name}@{}",
            limits::PLUGIN_VERSIONS,
            named.versions.keys().next().copied().unwrap_or(1)
        )));
    }
    Ok(())
}

fn number(name: &PluginName, named: &Named, wanted: Option<u32>) -> Result<u32, WireError> {
    let next = named.newest.checked_add(1);
    let next = next.ok_or_else(|| reply::bad_request(format!("{name} has no numbers left")))?;
    match wanted {
        Some(wanted) if wanted < next => Err(WireError::new(
            Code::ALREADY_EXISTS,
            format!("{name} has had a version {wanted}; the next is {next}"),
        )),
        Some(wanted) => Ok(wanted),
        None => Ok(next),
    }
}

fn takes_uploads(broker: &Broker) -> Result<(), WireError> {
    let runtime = broker.shelf.runtime();
    if runtime.takes_uploads() && runtime.components().is_some() {
        return Ok(());
    }
    Err(WireError::new(
        Code::UNSUPPORTED,
        "this broker takes in no plugins: the program it is part of names no quern to compile them",
    ))
}

fn fits(size: u64) -> Result<(), WireError> {
    if size <= COMPONENT_LIMIT as u64 {
        return Ok(());
    }
    let text = format!("a component has at most {COMPONENT_LIMIT} bytes, not {size}");
    Err(WireError::new(Code::PLUGIN_TOO_LARGE, text))
}

/// Work on the component files, on a thread that may block.
pub(crate) async fn on_disk<T: Send + 'static>(
    broker: &Arc<Broker>,
    work: impl FnOnce(&Components) -> io::Result<T> + Send + 'static,
) -> Result<T, WireError> {
    let runtime = broker.shelf.runtime().clone();
    let work = move || match runtime.components() {
        Some(components) => work(components),
        None => Err(io::Error::other("there is none")),
    };
    let done = blocking(work).await?;
    done.map_err(|error| reply::components_failed(&error))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WireError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| reply::delivery_stopped())
}

fn about(report: Report) -> PluginAbout {
    PluginAbout {
        kind: kind(report.kind),
        calls_itself: report.name,
        author_version: report.version,
        summary: report.summary,
        language: report.language,
        fuel_per_message: report.fuel_per_message,
        cases: report.cases,
    }
}

pub(crate) fn kind(kind: Kind) -> PluginKind {
    match kind {
        Kind::Filter => PluginKind::Filter,
        Kind::BodyFilter => PluginKind::BodyFilter,
        Kind::QueueSelector => PluginKind::QueueSelector,
        Kind::AllocationStrategy => PluginKind::AllocationStrategy,
    }
}
