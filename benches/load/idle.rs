//! What a server holds that does nothing, with one tenant and with many. They share caches, write buffers and threads.

use std::{path::Path, time::Duration};

use tokio::runtime::Runtime;

use crate::{
    Scale,
    client::{Connection, request},
    program::{Program, SETTINGS},
};

/// How long the server is left alone before it is looked at.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) fn run(client: &Runtime, folder: &Path, scale: &Scale) {
    println!("### At rest, with all tenants open\n");
    println!("| tenants | resident memory | threads | open files | start-up |\n|---|---|---|---|---|");
    for &tenants in scale.tenants {
        eprintln!("{tenants} tenants at rest …");
        let home = folder.join(format!("idle{tenants}"));
        std::fs::create_dir(&home).unwrap();
        let sections: String = (0..tenants)
            .map(|number| format!("[[tenant]]\nname = \"t{number}\"\nserver_name = \"t{number}.example\"\n"))
            .collect();
        std::fs::write(home.join("config.toml"), format!("{SETTINGS}{sections}")).unwrap();
        // Started twice: the first start makes the folders.
        let opened = |program: &Program| {
            client.block_on(async {
                let mut connection = Connection::open(program.address).await;
                for number in 0..tenants {
                    let host = format!("t{number}.example");
                    let status = connection.exchange(&request("GET", "/v1/me", &host, "", "")).await;
                    assert_eq!(status, 401, "a tenant opens with its first request, whatever that is");
                }
            });
        };
        let first = Program::start(&home);
        opened(&first);
        first.stop();
        let program = Program::start(&home);
        opened(&program);
        std::thread::sleep(QUIET);
        let held = program.held();
        let ready = program.ready_after.as_secs_f64();
        println!("| {tenants} | {:.0} MB | {} | {} | {ready:.2} s |", held.resident_mb, held.threads, held.files);
        program.stop();
    }
    println!();
}
