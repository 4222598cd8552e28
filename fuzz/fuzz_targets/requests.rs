//! Requests to every route of a server in this process. See `yurt_fuzz::World::ask` for how bytes become a request.
//! With `YURT_FUZZ_CORPUS=FOLDER` it writes seeds for all targets there instead.
#![no_main]

use std::{env, path::Path, process, sync::Mutex};

use yurt_fuzz::{World, seeds};

/// Requests to one world. Then comes a new one, so that a finding depends on few requests before it, and memory is bounded.
const REQUESTS_MAX: usize = 5_000;

/// Never dropped at the end of the process, when nothing asynchronous runs any more.
static WORLD: Mutex<Option<(World, usize)>> = Mutex::new(None);

libfuzzer_sys::fuzz_target!(
    init: if let Some(corpus) = env::var_os("YURT_FUZZ_CORPUS") {
        seeds::write_all(Path::new(&corpus));
        process::exit(0);
    },
    |bytes: &[u8]| {
        let mut slot = WORLD.lock().expect("no finding before this one");
        let (world, asked) = slot.get_or_insert_with(|| (World::new(), 0));
        world.ask(bytes);
        *asked += 1;
        if *asked == REQUESTS_MAX {
            *slot = None;
        }
    }
);
