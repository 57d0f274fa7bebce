//! All generated code: the contract of `wit/` as the host sees it. Nothing here is written by hand.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "filter-plugin",
});
