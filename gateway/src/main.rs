//! The `gateway` binary: the command line decides what it does.

use std::process::ExitCode;

use postern_gateway::{cli, panics, tls};

// A request makes some dozens of small allocations that live as long as it does; mimalloc serves them from the worker's own heap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    panics::install_hook();
    tls::install_provider();
    cli::start()
}
