//! Samples of uploads, of what is said about plugins, and of filters that name one.

use quern_protocol::{
    Activation, BeginUpload, BeginUploadReply, BindingChange, BindingStates, BindingStatesReply,
    ChangeBindings, ChangeBindingsReply, ChangePlugin, ChangePluginReply, Code, ComponentDigest,
    DescribePlugin, DescribePluginReply, Disagreement, FallBacks, Filter, FinishUpload,
    FinishUploadReply, GroupBindings, ListBindings, ListBindingsReply, ListPlugins,
    ListPluginsReply, LogLevel, OpenBreaker, Operation as _, Otherwise, PluginAbout, PluginChange,
    PluginFallBacks, PluginFallBacksReply, PluginFaults, PluginFigures, PluginHealth,
    PluginHealthReply, PluginKind, PluginLine, PluginLogs, PluginLogsReply, PluginName,
    PluginSummary, PluginTrial, PluginUsers, PluginUsersReply, Pull, Quarantined, QueueId,
    QueueOffset, RefusedUser, ReplayPlugin, ReplayPluginReply, Rewound, TrialKind, TrialMove,
    TrialMoves, TrialMovesReply, TrialReport, Unjudged, UploadChunk, UploadChunkReply,
    VersionHealth, VersionReport, VersionState, WireError,
};

use crate::{Samples, broker, group, topic};

fn name() -> PluginName {
    PluginName::new("geo").unwrap()
}

fn digest() -> ComponentDigest {
    ComponentDigest(std::array::from_fn(|index| index as u8))
}

fn about() -> PluginAbout {
    PluginAbout {
        kind: PluginKind::BodyFilter,
        calls_itself: "geo-fence".to_owned(),
        author_version: "0.1.0".to_owned(),
        summary: "what lies within".to_owned(),
        language: Some("GEO".to_owned()),
        fuel_per_message: 291,
        cases: 12,
    }
}

/// What selectors, strategies and bound filters are asked about when they fail, or are tried.
fn decided(all: &mut Samples) {
    let place = |queue| (broker(), QueueId(queue));
    let message = TrialMove::Message {
        topic: topic(),
        key: "order-42".to_owned(),
        active: place(1),
        trial: place(300),
    };
    let queue = TrialMove::Queue {
        group: group(),
        topic: topic(),
        broker: broker(),
        queue: QueueId(7),
        active: Some("a".to_owned()),
        trial: None,
    };
    let moves = vec![message, queue];
    all.add(&TrialMoves { name: name() }, &TrialMovesReply { moves });
    let stood_in = FallBacks {
        plugin: name(),
        version: 3,
        refused: 1,
        in_turn: 2,
        kept: 3,
        averagely: 4,
        instead: 300,
    };
    let versions = vec![stood_in];
    all.add(&PluginFallBacks {}, &PluginFallBacksReply { versions });
    let otherwise = Otherwise {
        topic: topic(),
        group: group(),
        plugin: name(),
        otherwise: Filter::plugin("sql92").unwrap().expression("a = 1"),
    };
    let open = OpenBreaker {
        plugin: "geo@3".to_owned(),
        asks: "geo min=100".to_owned(),
        topic: topic(),
        group: Some(group()),
        why: "it failed".to_owned(),
        again_in_ms: 30_000,
        times: 2,
    };
    let states = BindingStatesReply {
        otherwise: vec![otherwise],
        open: vec![open],
    };
    all.add(&BindingStates {}, &states);
    let users = PluginUsers {
        name: name(),
        version: Some(4),
    };
    let user = RefusedUser {
        group: Some(group()),
        topic: Some(topic()),
        asks: "geo min=100".to_owned(),
        reason: WireError::new(Code::PARAMETER_REFUSED, "there is no such parameter"),
    };
    let refused = PluginUsersReply {
        version: 4,
        refused: vec![user],
    };
    all.add(&users, &refused);
}

/// What a version decided is judged again.
pub(crate) fn replays(all: &mut Samples) {
    let replay = ReplayPlugin {
        name: name(),
        version: Some(2),
    };
    let rewound = Rewound {
        group: group(),
        topic: topic(),
        queues: 8,
        messages: 1_204,
    };
    let replayed = ReplayPluginReply {
        version: 2,
        rewound: vec![rewound],
    };
    all.add(&replay, &replayed);
}

pub(crate) fn plugins(all: &mut Samples, pull: &Pull) {
    decided(all);
    let (digest, size) = (digest(), 140_000);
    all.add(
        &BeginUpload { digest, size },
        &BeginUploadReply { received: 0 },
    );
    all.add(
        &UploadChunk { digest, at: 9 },
        &UploadChunkReply { received: size },
    );
    let finish = FinishUpload {
        digest,
        name: name(),
        version: Some(3),
    };
    let finished = FinishUploadReply {
        version: 3,
        is_new: true,
        about: about(),
    };
    all.add(&finish, &finished);
    let change = |change| ChangePlugin {
        name: name(),
        change,
    };
    let changed = ChangePluginReply {
        before: Some(2),
        active: None,
    };
    all.add(&change(PluginChange::Disable), &changed);
    for (what, it) in [
        ("activate", PluginChange::Activate { version: Some(3) }),
        ("roll back", PluginChange::RollBack),
        ("remove", PluginChange::Remove { version: 1 }),
        ("end a trial", PluginChange::EndTrial),
        (
            "activate anyway",
            PluginChange::ActivateAnyway { version: None },
        ),
        (
            "try",
            PluginChange::Try {
                version: Some(4),
                how: TrialKind::Canary,
                permille: 50,
            },
        ),
    ] {
        all.request(&change(it), what);
    }
    described(all);
    let filter = Filter::plugin("geo@3").unwrap();
    let filter = filter.param("min", "100").expression("inside");
    let pull = Pull {
        broadcast: false,
        filter: filter.into(),
        ..pull.clone()
    };
    all.request(&pull, "by a plugin");
    assert_eq!(pull.version(), 1);
}

fn trial() -> TrialReport {
    TrialReport {
        trial: PluginTrial {
            version: 4,
            how: TrialKind::Shadow,
            permille: 100,
            since: 1_750_000_000_002,
        },
        decided: 1_000,
        agreed: 990,
        only_active: 9,
        only_trial: 1,
        failed: 2,
        disagreements: vec![Disagreement {
            topic: topic(),
            queue: QueueId(2),
            offset: QueueOffset(300),
            by_trial: true,
        }],
        ended: Some("it failed".to_owned()),
    }
}

fn described(all: &mut Samples) {
    let figures = PluginFigures {
        calls: 4,
        messages: 1_000,
        delivered: 10,
        faults: 1,
        fuel: 291_000,
    };
    let summary = PluginSummary {
        name: name(),
        kind: PluginKind::Filter,
        built_in: false,
        active: Some(3),
        newest: 4,
        versions: 2,
        figures,
    };
    let plugins = vec![summary];
    all.add(&ListPlugins {}, &ListPluginsReply { plugins });
    let version = VersionReport {
        version: 3,
        state: VersionState::Retired,
        is_here: true,
        digest: digest(),
        size: 140_000,
        added_at: 1_750_000_000_000,
        about: about(),
        figures: Some(figures),
        counters: vec![("seen".to_owned(), 7)],
    };
    let described = DescribePluginReply {
        built_in: false,
        versions: vec![version],
        activations: vec![Activation {
            version: Some(3),
            at: 1_750_000_000_001,
        }],
        trial: Some(trial()),
    };
    all.add(&DescribePlugin { name: name() }, &described);
    at_work(all);
}

/// How they do, and what they say.
fn at_work(all: &mut Samples) {
    let health = VersionHealth {
        plugin: name(),
        version: 3,
        quarantined: Some(Quarantined {
            at: 1_750_000_000_003,
            why: "it failed".to_owned(),
        }),
        faults: PluginFaults {
            traps: 1,
            out_of_fuel: 2,
            out_of_memory: 3,
            bad_answers: 4,
            failures: 300,
        },
        unjudged: Unjudged {
            stalled: 5,
            passed: 6,
            parked: 300,
        },
        last_fault: "Q-4301 stopped".to_owned(),
    };
    let versions = vec![health];
    all.add(&PluginHealth {}, &PluginHealthReply { versions });
    let logs = PluginLogs {
        name: name(),
        from: Some(300),
        max_lines: 100,
    };
    let line = PluginLine {
        number: 301,
        at: 1_750_000_000_004,
        plugin: "geo@3".to_owned(),
        level: LogLevel::Warn,
        line: "said".to_owned(),
    };
    let said = PluginLogsReply {
        lines: vec![line],
        next: 302,
        lost: 1,
    };
    all.add(&logs, &said);
    bound(all);
}

fn bound(all: &mut Samples) {
    let geo = Filter::plugin("geo@3").unwrap();
    let filters = vec![geo.param("min", "100").expression("inside")];
    let change = |change| ChangeBindings {
        topic: topic(),
        group: group(),
        change,
    };
    let bind = change(BindingChange::Bind(filters[0].clone()));
    let bound = ChangeBindingsReply {
        filters: filters.clone(),
    };
    all.add(&bind, &bound);
    all.request(&change(BindingChange::Unbind(name())), "unbind");
    let otherwise = Filter::plugin("sql92").unwrap().expression("a = 1");
    let bind = BindingChange::BindElse(filters[0].clone(), otherwise);
    all.request(&change(bind), "bind, or else");
    let bindings = GroupBindings {
        topic: topic(),
        group: group(),
        filters,
    };
    let listed = ListBindingsReply {
        bindings: vec![bindings],
    };
    all.add(&ListBindings {}, &listed);
}
