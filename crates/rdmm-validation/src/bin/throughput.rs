//! How fast the flows and their kernels are, beside what the bandwidth of the memory allows.
//!
//! Each case runs in a process of its own, so that the peak of the memory is its own. A case's time is the least
//! of three runs, or of up to thirty where they are short: the processor's time for one thread, the time of day for
//! more. The bandwidth is measured in the same process with the same threads. Prints a Markdown table or, with
//! `--json`, a line of JSON a case.
#![expect(clippy::print_stdout, reason = "a program reports on the terminal")]

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use rdmm_validation::Fallible;
use rdmm_validation::arguments::Arguments;
use rdmm_validation::outcome::table;
use rdmm_validation::speed::measurement::Measurement;
use rdmm_validation::speed::workload::{self, Dynamics, Flow, Operation, Workload};
use rdmm_validation::speed::{page, traffic};

const OPTIONS: [(&str, &str); 4] = [
    ("threads", "1, 2 or all (default: 1, then 2)"),
    ("only", "vsvf, lddmm, rdmm, or - for the kernels alone"),
    ("book", "page whose marked tables are written"),
    ("case", "one case, by its label, in this process; prints JSON"),
];
const FLAGS: [(&str, &str); 2] =
    [("json", "a line of JSON a case in place of the tables"), ("quick", "small grids")];

/// Numbers of threads to measure with.
fn threads(arguments: &Arguments) -> Fallible<Vec<usize>> {
    match arguments.text("threads") {
        None => Ok(vec![1, 2]),
        Some("all") => Ok(vec![std::thread::available_parallelism()?.get()]),
        Some(text) => match text.parse() {
            Ok(count) if count > 0 => Ok(vec![count]),
            _ => Err(format!("--threads: expected 1, 2 or all, found {text}").into()),
        },
    }
}

/// The cases that are asked for.
fn cases(arguments: &Arguments) -> Fallible<Vec<Workload>> {
    let mut cases = if arguments.has("quick") { workload::quick() } else { full() };
    if let Some(model) = arguments.text("only") {
        cases.retain(|case| case.operation.model() == model);
        if cases.is_empty() {
            return Err(format!("--only: expected vsvf, lddmm, rdmm or -, found {model}").into());
        }
    }
    Ok(cases)
}

fn full() -> Vec<Workload> {
    [workload::flows(), workload::scaling(), workload::kernels()].concat()
}

/// Measures one case here.
fn measure(label: &str, threads: usize) -> Fallible<Value> {
    let mut all = full().into_iter().chain(workload::quick());
    let case = all.find(|case| case.label() == label);
    let case = case.ok_or_else(|| format!("--case: there is no case {label}"))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    // Errors of the pool's thread come back as text.
    let measured = pool.install(|| Measurement::of(&case, threads).map_err(|e| e.to_string()));
    Ok(measured?.json())
}

/// Measures one case in a process of its own.
fn measure_apart(case: &Workload, threads: usize) -> Fallible<Value> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--case", &case.label(), "--threads", &threads.to_string()]);
    let output = child.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", case.label(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A case with its figures, one a number of threads.
type Row = (Workload, Vec<Value>);

/// A heading and the cell of a case's figures, with the bandwidth in GB/s.
type Column = (&'static str, fn(&Value, f64) -> String);

fn number(figures: &Value, key: &str) -> f64 {
    figures[key].as_f64().unwrap_or(f64::NAN)
}

fn whole(count: Option<usize>) -> String {
    count.map_or("–".to_owned(), |count| count.to_string())
}

/// One row a case: `columns` of the figures for each number of threads between what is done and the memory. The bandwidth is
/// that of `all` cases: from one to the next the memory of a virtual machine may be half as fast or twice.
fn figures(rows: &[Row], all: &[Row], threads: &[usize], columns: [Column; 2]) -> String {
    let mut headings: Vec<String> =
        ["model", "operation", "grid", "float", "N", "steps"].map(str::to_owned).into();
    for count in threads {
        headings.extend(columns.map(|(name, _)| format!("{name}, {count}T")));
    }
    headings.push("peak MB".to_owned());
    let triads: Vec<f64> = (0..threads.len()).map(|k| bandwidth(all, k)).collect();
    let cells = |(case, figures): &Row| {
        let operation = case.operation;
        let mut cells = vec![
            operation.model(),
            operation.to_string(),
            case.size(),
            case.float.to_string(),
            whole(operation.gaussians()),
            whole(operation.flow().map(|flow| flow.steps)),
        ];
        for (one, triad) in figures.iter().zip(&triads) {
            cells.extend(columns.map(|(_, of)| of(one, *triad)));
        }
        let peaks = figures.iter().filter_map(|one| one["peak_mb"].as_f64());
        cells.push(peaks.reduce(f64::max).map_or("–".to_owned(), |peak| format!("{peak:.0}")));
        cells
    };
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&headings.iter().map(String::as_str).collect::<Vec<_>>(), &cells)
}

/// Seconds of flows.
fn flow_table(rows: &[Row], threads: &[usize]) -> String {
    let flows: Vec<Row> =
        rows.iter().filter(|(case, _)| case.operation.flow().is_some()).cloned().collect();
    let seconds = |one: &Value, _: f64| format!("{:.3}", number(one, "seconds"));
    figures(&flows, rows, threads, [("s", seconds), ("ratio", ratio)])
}

/// Nanoseconds a voxel of kernels.
fn kernel_table(rows: &[Row], threads: &[usize]) -> String {
    let kernels: Vec<Row> =
        rows.iter().filter(|(case, _)| case.operation.flow().is_none()).cloned().collect();
    let nanoseconds =
        |one: &Value, _: f64| format!("{:.2}", 1e9 / number(one, "voxels_per_second"));
    figures(&kernels, rows, threads, [("ns/voxel", nanoseconds), ("ratio", ratio)])
}

/// Seconds by those that the memory takes to move the bytes.
fn ratio(one: &Value, triad: f64) -> String {
    format!("{:.1}", number(one, "seconds") * triad * 1e9 / number(one, "bytes_moved"))
}

/// The bandwidth by the k-th number of threads, in GB/s: the median of all cases.
fn bandwidth(rows: &[Row], k: usize) -> f64 {
    let of_row = |(_, figures): &Row| figures.get(k).map(|one| number(one, "triad_gb_per_s"));
    let mut all: Vec<f64> = rows.iter().filter_map(of_row).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The processor, and its bandwidth by each number of threads.
fn machine(rows: &[Row], threads: &[usize]) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").ok();
    let mut lines = info.as_deref().into_iter().flat_map(str::lines);
    let model = lines.find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("unknown processor", |m| m.1);
    let triads = threads.iter().enumerate();
    let triads = triads.map(|(k, count)| format!("{:.1} GB/s with {count}T", bandwidth(rows, k)));
    format!("{}; triad {}.", model.trim(), triads.collect::<Vec<_>>().join(", "))
}

/// The model of the traffic.
fn traffic_table() -> String {
    let flow = |dynamics| Flow { dynamics, gaussians: 4, steps: 10 };
    let gradients = Dynamics::ALL.map(|dynamics| Operation::Gradient(flow(dynamics)));
    let others = [
        Operation::Gaussian(2.0),
        Operation::SumOfGaussians,
        Operation::WarpImage,
        Operation::WarpVector,
        Operation::ScatterVector,
        Operation::Lncc,
    ];
    let mut rows = Vec::new();
    for operation in gradients.into_iter().chain(others) {
        let forward = operation.flow().map(|flow| traffic::passes(Operation::Shoot(flow)).len());
        for (k, pass) in traffic::passes(operation).into_iter().enumerate() {
            let name = match (operation.flow(), forward) {
                (Some(flow), Some(forward)) if k < forward => format!("{} step", flow.dynamics),
                (Some(flow), _) => format!("{} step back", flow.dynamics),
                (None, _) => operation.to_string(),
            };
            let (reads, writes) = (pass.reads.to_string(), pass.writes.to_string());
            rows.push(vec![name, pass.what.to_owned(), pass.times.to_string(), reads, writes]);
        }
    }
    table(&["of", "pass", "times", "reads", "writes"], &rows)
}

fn run() -> Fallible<()> {
    let Some(arguments) = Arguments::parse_with_flags(&OPTIONS, &FLAGS)? else { return Ok(()) };
    let threads = threads(&arguments)?;
    if let Some(label) = arguments.text("case") {
        let &[count] = threads.as_slice() else {
            return Err("--case needs --threads".into());
        };
        println!("{}", measure(label, count)?);
        return Ok(());
    }
    let mut rows = Vec::new();
    for case in cases(&arguments)? {
        let mut figures = Vec::new();
        for &count in &threads {
            let one = measure_apart(&case, count)?;
            if arguments.has("json") {
                println!("{one}");
            }
            figures.push(one);
        }
        rows.push((case, figures));
    }
    let parts = [
        ("machine", machine(&rows, &threads)),
        ("flows", flow_table(&rows, &threads)),
        ("kernels", kernel_table(&rows, &threads)),
        ("traffic", traffic_table()),
    ];
    if let Some(path) = arguments.text("book") {
        let mut text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        for (mark, body) in &parts {
            text = page::replaced(&text, mark, body)?;
        }
        fs::write(path, text)?;
    }
    if !arguments.has("json") {
        let [(_, machine), (_, flows), (_, kernels), _] = &parts;
        println!("{machine}\n\n{flows}\n{kernels}");
    }
    Ok(())
}

fn main() -> ExitCode {
    rdmm_validation::exit(run())
}
