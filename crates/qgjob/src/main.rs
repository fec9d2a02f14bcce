//! The `qgjob` program.

fn main() -> std::process::ExitCode {
    qgjob::cli::main()
}
