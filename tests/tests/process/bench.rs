//! pgbench, in every mode of the protocol that it speaks.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::pgbench;
use process_tests::run;

#[test]
fn pgbench_runs_without_an_error() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let direct = postgres().connect("direct").await;
        direct.batch_execute("create database bench").await.unwrap();
        let made = pgbench(plane.port, "bench", &["--initialize", "--quiet"]).finished().await;
        assert_eq!(made.code, Some(0), "{made:?}");
        for (mode, length) in [("prepared", ["-T", "3"]), ("simple", ["-t", "100"]), ("extended", ["-t", "100"])] {
            let arguments = ["--select-only", "--no-vacuum", "-M", mode, "-c", "8", length[0], length[1]];
            let ran = pgbench(plane.port, "bench", &arguments).finished().await;
            assert_eq!(ran.code, Some(0), "{mode}: {ran:?}");
            assert!(!ran.err.contains("error"), "{mode}: {ran:?}");
            assert!(!ran.out.contains("actually processed: 0"), "{mode}: {ran:?}");
        }
    });
}
