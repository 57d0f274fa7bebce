//! What stands where WASI preview 1 would, for compiled languages whose runtime expects one: nothing. Files, sockets,
//! arguments and the environment are not there, what is written goes nowhere, whoever waits is stopped. Clocks, which
//! collectors of garbage look at, stand still, and randomness, which runtimes seed their tables with, is the same in every
//! instance: so the same batch gets the same answer. The host itself has none of it: this becomes part of the component.

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    InstructionSink, MemArg, MemoryType, Module, TypeSection, ValType,
};

/// What a function does that a runtime calls.
#[derive(Clone, Copy)]
enum Does {
    /// Says that all went well.
    Nothing,
    /// Says that there is no such descriptor: the error number 8.
    Lacks,
    /// Writes two zeros: that there are no arguments, and that they need no space.
    CountsNone,
    /// Stands still.
    Clock,
    /// Says how much was written.
    Writes,
    Random,
    Stops,
}

/// Name, parameters (`i` of 32 bits, `l` of 64) and what it does. All but the one that ends it all return a number.
const FUNCTIONS: [(&str, &str, Does); 46] = [
    ("args_get", "ii", Does::Nothing),
    ("args_sizes_get", "ii", Does::CountsNone),
    ("clock_res_get", "ii", Does::Lacks),
    ("clock_time_get", "ili", Does::Clock),
    ("environ_get", "ii", Does::Nothing),
    ("environ_sizes_get", "ii", Does::CountsNone),
    ("fd_advise", "illi", Does::Lacks),
    ("fd_allocate", "ill", Does::Lacks),
    ("fd_close", "i", Does::Lacks),
    ("fd_datasync", "i", Does::Lacks),
    ("fd_fdstat_get", "ii", Does::Lacks),
    ("fd_fdstat_set_flags", "ii", Does::Lacks),
    ("fd_fdstat_set_rights", "ill", Does::Lacks),
    ("fd_filestat_get", "ii", Does::Lacks),
    ("fd_filestat_set_size", "il", Does::Lacks),
    ("fd_filestat_set_times", "illi", Does::Lacks),
    ("fd_pread", "iiili", Does::Lacks),
    ("fd_prestat_dir_name", "iii", Does::Lacks),
    ("fd_prestat_get", "ii", Does::Lacks),
    ("fd_pwrite", "iiili", Does::Lacks),
    ("fd_read", "iiii", Does::Lacks),
    ("fd_readdir", "iiili", Does::Lacks),
    ("fd_renumber", "ii", Does::Lacks),
    ("fd_seek", "ilii", Does::Lacks),
    ("fd_sync", "i", Does::Lacks),
    ("fd_tell", "ii", Does::Lacks),
    ("fd_write", "iiii", Does::Writes),
    ("path_create_directory", "iii", Does::Lacks),
    ("path_filestat_get", "iiiii", Does::Lacks),
    ("path_filestat_set_times", "iiiilli", Does::Lacks),
    ("path_link", "iiiiiii", Does::Lacks),
    ("path_open", "iiiiillii", Does::Lacks),
    ("path_readlink", "iiiiii", Does::Lacks),
    ("path_remove_directory", "iii", Does::Lacks),
    ("path_rename", "iiiiii", Does::Lacks),
    ("path_symlink", "iiiii", Does::Lacks),
    ("path_unlink_file", "iii", Does::Lacks),
    ("poll_oneoff", "iiii", Does::Stops),
    ("proc_exit", "i", Does::Stops),
    ("proc_raise", "i", Does::Stops),
    ("random_get", "ii", Does::Random),
    ("sched_yield", "", Does::Nothing),
    ("sock_accept", "iii", Does::Lacks),
    ("sock_recv", "iiiiii", Does::Lacks),
    ("sock_send", "iiiii", Does::Lacks),
    ("sock_shutdown", "ii", Does::Lacks),
];

pub(crate) const NAME: &str = "wasi_snapshot_preview1";

/// What the clock says, ns: nothing that a runtime takes for one that has not begun.
const STANDS_AT: i64 = 1_000_000_000_000;

/// The module a component gets it from, which works on the plugin's own memory.
pub(crate) fn adapter() -> Vec<u8> {
    let (mut types, mut functions) = (TypeSection::new(), FunctionSection::new());
    let (mut exports, mut code) = (ExportSection::new(), CodeSection::new());
    for (index, (name, params, does)) in (0u32..).zip(FUNCTIONS) {
        let params = params.bytes().map(|it| match it {
            b'l' => ValType::I64,
            _ => ValType::I32,
        });
        let results = (name != "proc_exit").then_some(ValType::I32);
        types.ty().function(params, results);
        functions.function(index);
        exports.export(name, ExportKind::Func, index);
        code.function(&body(does));
    }
    let mut imports = ImportSection::new();
    let memory = MemoryType {
        minimum: 0,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    imports.import("env", "memory", EntityType::Memory(memory));
    let mut module = Module::new();
    let module = module.section(&types).section(&imports).section(&functions);
    module.section(&exports).section(&code);
    module.clone().finish()
}

fn at(offset: u64, align: u32) -> MemArg {
    MemArg {
        offset,
        align,
        memory_index: 0,
    }
}

fn body(does: Does) -> Function {
    let locals = matches!(does, Does::Writes).then_some((1, ValType::I32));
    let mut function = Function::new(locals);
    let mut it = function.instructions();
    match does {
        Does::Nothing => {
            it.i32_const(0);
        }
        Does::Lacks => {
            it.i32_const(8);
        }
        Does::CountsNone => {
            for param in 0..2 {
                it.local_get(param).i32_const(0).i32_store(at(0, 2));
            }
            it.i32_const(0);
        }
        Does::Clock => {
            it.local_get(2).i64_const(STANDS_AT).i64_store(at(0, 3));
            it.i32_const(0);
        }
        Does::Writes => written(&mut it),
        Does::Random => {
            it.local_get(0).i32_const(0x5a).local_get(1);
            it.memory_fill(0).i32_const(0);
        }
        Does::Stops => {
            it.unreachable();
        }
    }
    it.end();
    function
}

/// `fd_write(descriptor, pieces, how many, where the sum goes)`: a piece is an address and a length.
fn written(it: &mut InstructionSink<'_>) {
    let (pieces, count, sum_at, sum) = (1, 2, 3, 4);
    it.block(wasm_encoder::BlockType::Empty);
    it.loop_(wasm_encoder::BlockType::Empty);
    it.local_get(count).i32_eqz().br_if(1);
    it.local_get(pieces).i32_load(at(4, 2));
    it.local_get(sum).i32_add().local_set(sum);
    it.local_get(pieces)
        .i32_const(8)
        .i32_add()
        .local_set(pieces);
    it.local_get(count).i32_const(1).i32_sub().local_set(count);
    it.br(0).end().end();
    it.local_get(sum_at).local_get(sum).i32_store(at(0, 2));
    it.i32_const(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_valid_module_and_its_names_are_sorted() {
        assert!(FUNCTIONS.is_sorted_by_key(|it| it.0));
        // Its bodies, too, are well typed.
        let flaw = wasmparser::Validator::new().validate_all(&adapter());
        assert_eq!(flaw.err().map(|it| it.to_string()), None);
    }
}
