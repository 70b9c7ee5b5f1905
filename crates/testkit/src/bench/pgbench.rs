//! The limit on PostgreSQL: `pgbench -N -M prepared`, one update, one select and one insert for each commit.

use std::time::Duration;

use host::process::{Command, run};

/// The program, as the environment names it or as `PATH` finds it.
pub fn find() -> String {
    host::env::var("PILOTHOUSE_BENCH_PGBENCH").filter(|path| !path.is_empty()).unwrap_or_else(|| "pgbench".to_owned())
}

/// Makes pgbench's tables in this database, or says why that cannot be done.
pub async fn prepare(program: &str, url: &str) -> Result<(), String> {
    call(program, &["-i", "-s", "10", "-q", url], Duration::from_secs(120)).await.map(|_| ())
}

/// Transactions a second with so many clients.
pub async fn measure(program: &str, url: &str, clients: usize, span: Duration) -> Result<f64, String> {
    let (clients, seconds) = (clients.to_string(), span.as_secs().max(1).to_string());
    let arguments = ["-N", "-n", "-M", "prepared", "-c", &clients, "-T", &seconds, url];
    let output = call(program, &arguments, span + Duration::from_secs(60)).await?;
    parse(&output).ok_or_else(|| format!("pgbench said nothing about its speed: {output}"))
}

fn parse(output: &str) -> Option<f64> {
    output.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
}

async fn call(program: &str, arguments: &[&str], timeout: Duration) -> Result<String, String> {
    let path = host::env::var("PATH").unwrap_or_else(|| host::process::DEFAULT_PATH.to_owned());
    let command =
        Command::new(program).args(arguments.iter().copied()).env("PATH", path).env("LC_ALL", "C").timeout(timeout);
    let output = run(command).await.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_read_from_what_pgbench_prints() {
        let output =
            "number of clients: 64\nlatency average = 12.3 ms\ntps = 5201.123456 (without initial connection time)\n";

        assert_eq!(parse(output), Some(5_201.123_456));
        assert_eq!(parse("pgbench: error"), None);
    }
}
