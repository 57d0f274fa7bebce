//! All generated code: the contract of `wit/` as Rust. Nothing here is written by hand.

wit_bindgen::generate!({
    path: "../wit",
    world: "filter-plugin",
    pub_export_macro: true,
    export_macro_name: "export_filter_plugin",
    default_bindings_module: "quern_plugin::bindings",
});
