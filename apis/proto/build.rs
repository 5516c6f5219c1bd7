//! Compiles `proto/` into Rust and a descriptor set. The compiler is `protox`: no `protoc` on the machine is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FILES: [&str; 8] = [
    "apache/rocketmq/v2/definition.proto",
    "apache/rocketmq/v2/service.proto",
    "apache/rocketmq/v2/admin.proto",
    "apogee/admin/v1/admin.proto",
    "apogee/store/v1/replication.proto",
    "apogee/store/v1/lane.proto",
    "apogee/namesrv/v1/registry.proto",
    "apogee/namesrv/v1/consensus.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut descriptors = protox::compile(FILES, ["proto"])?;

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".") // bodies are shared, not copied
        .btree_map(".") // iteration order must not depend on a hash seed
        .compile_fds(descriptors.clone())?;

    for file in &mut descriptors.file {
        file.source_code_info = None; // comments and positions: nothing of the wire
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
