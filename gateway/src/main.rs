//! The `gateway` binary; the command line selects the command.

use std::process::ExitCode;

use postern_gateway::extend::Gateway;

// A request makes dozens of small allocations of its own lifetime; mimalloc serves them from the
// worker's heap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Gateway::new().start()
}
