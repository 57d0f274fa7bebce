//! All generated code: the contract of `wit/` as the host sees it. Nothing here is written by hand
//! but the cut: a world of the contract exports `about` and one interface more, and here each
//! interface is a world of its own, so that all kinds share one `about`.

pub(crate) mod about {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package quern:host; world about {
            import quern:plugin/types@0.1.0;
            import quern:plugin/host@0.1.0;
            export quern:plugin/about@0.1.0;
        }",
    });
}

pub(crate) mod filter {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package quern:host; world filter { export quern:plugin/filter@0.1.0; }",
        with: { "quern:plugin/types": crate::bindings::about::quern::plugin::types },
    });
}

pub(crate) mod body_filter {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package quern:host; world body-filter { export quern:plugin/body-filter@0.1.0; }",
        with: { "quern:plugin/types": crate::bindings::about::quern::plugin::types },
    });
}

pub(crate) mod queue_selector {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package quern:host;
            world queue-selector { export quern:plugin/queue-selector@0.1.0; }",
        with: { "quern:plugin/types": crate::bindings::about::quern::plugin::types },
    });
}

pub(crate) mod allocation_strategy {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package quern:host;
            world allocation-strategy { export quern:plugin/allocation-strategy@0.1.0; }",
        with: { "quern:plugin/types": crate::bindings::about::quern::plugin::types },
    });
}

pub(crate) use about::quern::plugin::{host, types};
