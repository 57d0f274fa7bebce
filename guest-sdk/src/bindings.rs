//! All generated code: the contract of `wit/` as Rust. Nothing here is written by hand but the cut:
//! a world of the contract exports `about` and one interface more, and here each interface is a
//! world of its own, so that all kinds share one `about`. The tool that makes the component unites
//! what a plugin exports.

pub mod about {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package quern:sdk; world about {
            import quern:plugin/host@0.1.0;
            export quern:plugin/about@0.1.0;
        }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_about",
        default_bindings_module: "quern_plugin::bindings::about",
    });
}

pub mod filter {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package quern:sdk; world filter { export quern:plugin/filter@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_filter",
        default_bindings_module: "quern_plugin::bindings::filter",
    });
}

pub mod body_filter {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package quern:sdk; world body-filter { export quern:plugin/body-filter@0.1.0; }",
        with: {
            "quern:plugin/types@0.1.0": crate::bindings::filter::quern::plugin::types,
            "quern:plugin/body-filter@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_body_filter",
        default_bindings_module: "quern_plugin::bindings::body_filter",
    });
}

pub mod queue_selector {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package quern:sdk; world queue-selector { export quern:plugin/queue-selector@0.1.0; }",
        with: {
            "quern:plugin/types@0.1.0": crate::bindings::filter::quern::plugin::types,
            "quern:plugin/queue-selector@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_queue_selector",
        default_bindings_module: "quern_plugin::bindings::queue_selector",
    });
}

pub mod allocation_strategy {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package quern:sdk; world allocation-strategy { export quern:plugin/allocation-strategy@0.1.0; }",
        with: {
            "quern:plugin/types@0.1.0": crate::bindings::filter::quern::plugin::types,
            "quern:plugin/allocation-strategy@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_allocation_strategy",
        default_bindings_module: "quern_plugin::bindings::allocation_strategy",
    });
}

pub use about::quern::plugin::host;
pub use filter::quern::plugin::types;
