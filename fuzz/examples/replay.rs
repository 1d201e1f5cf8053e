//! Runs one target over the files that are named: `cargo run --example replay -- TARGET FILE…`.
#![allow(clippy::disallowed_methods)] // It reads files that a fuzzer left.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, body)) = logwood_fuzz::TARGETS.iter().find(|target| target.0 == name) else {
        let names: Vec<&str> = logwood_fuzz::TARGETS.iter().map(|target| target.0).collect();
        eprintln!("usage: replay TARGET FILE…, where TARGET is one of {}", names.join(", "));
        std::process::exit(64);
    };
    for file in arguments {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        body(&bytes);
        println!("{file}: holds");
    }
}
