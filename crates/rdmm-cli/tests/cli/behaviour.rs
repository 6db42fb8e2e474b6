//! Progress, exit codes, time limits, signals, and the commands around registrations.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{LABELS, PAIR, Place, Ran, figure};

/// A registration of a few seconds: no level ends before its last iteration.
const LONG: &str = "--preset rdmm --config long.toml --levels 2:25,1:35 --threads 1";

fn with_long() -> Place {
    let place = Place::with_pair();
    place.put("long.toml", "[optimiser]\ntolerance = 0.0\n");
    place
}

#[test]
fn progress_is_plain_lines_where_there_is_no_terminal() {
    let place = Place::with_pair();
    let register = format!("register {PAIR} --out out");
    let normal = place.run(&register).ends(0);
    assert!(normal.out.is_empty(), "the standard output is for what is asked for");
    assert!(!normal.err.contains('\u{1b}') && !normal.err.contains('\r'), "{:?}", normal.err);
    assert!(normal.err.contains("level 2 of 2") && normal.err.contains("results: out"));
    let verbose = place.run(&format!("{register} --verbose")).ends(0);
    assert!(verbose.err.lines().count() > normal.err.lines().count() + 10, "{}", verbose.err);
    let quiet = place.run(&format!("{register} -q")).ends(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    // Errors are said all the same.
    let failed = place.run("register -q --fixed none.nii --moving none.nii --out out").ends(2);
    assert!(failed.err.starts_with("error: none.nii"), "{}", failed.err);
}

#[test]
fn every_line_of_the_json_log_is_an_event() {
    let place = Place::with_pair();
    let events = |ran: &Ran| -> Vec<Value> {
        ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let ran = place.run(&format!("register {PAIR} --out out --log-json")).ends(0);
    let found = events(&ran);
    assert!(found.iter().all(|event| event["event"].is_string()), "{}", ran.err);
    let iterations: Vec<&Value> = found.iter().filter(|e| e["event"] == "iteration").collect();
    let history = place.json("out/report.json")["history"].as_array().unwrap().len();
    assert_eq!(iterations.len(), history);
    assert!(iterations[0]["progress"]["diagnostics"]["terms"]["total"].is_number());
    let ran = place.run("register --fixed none.nii --moving none.nii --out out --log-json").ends(2);
    let found = events(&ran);
    assert_eq!(
        (found.len(), &found[0]["event"], &found[0]["exit_code"]),
        (1, &"error".into(), &2.into())
    );
    place.put("pairs.csv", "fixed,moving\nfixed.nii.gz,moving.nii.gz\n");
    let ran = place.run("batch --pairs pairs.csv --out many --log-json").ends(0);
    assert!(events(&ran).iter().any(|event| event["pair"] == "pair001"), "{}", ran.err);
}

#[test]
fn a_time_limit_leaves_the_best_state_and_resume_goes_on_to_the_same_bits() {
    for preset in ["lddmm", "vsvf", "rdmm-regions", "rdmm"] {
        let place = Place::with_pair();
        let register = format!("register {PAIR} {LABELS} --preset {preset}");
        place.run(&format!("{register} --out whole")).ends(0);
        // A limit within the affine registration leaves nothing to go on from: the levels that were left out count.
        let ran = place.run(&format!("{register} --time-limit 0 --out part")).ends(124);
        assert!(
            ran.err.contains("nothing to go on from") && !place.has("part/checkpoint.bin"),
            "{}",
            ran.err
        );
        assert_eq!(place.files("part"), place.files("whole"));
        assert_eq!(place.json("part/report.json")["stopped"], "time-limit");
        assert_eq!(place.json("part/report.json")["converged"], false);
        assert!(place.text("part/report.html").contains("time limit"));
        place.run(&format!("{register} --resume --out part")).ends(0);
        assert!(place.bytes("part/warp.nii.gz") == place.bytes("whole/warp.nii.gz"), "{preset}");

        // Without one, the flow stops before its first iteration.
        let register = format!("{register} --affine none");
        place.run(&format!("{register} --out whole")).ends(0);
        let ran = place.run(&format!("{register} --time-limit 0 --out part")).ends(124);
        assert!(
            ran.err.contains("--resume goes on") && place.has("part/checkpoint.bin"),
            "{}",
            ran.err
        );
        place.run(&format!("{register} --resume --out part")).ends(0);
        same_results(&place, "whole", "part");
    }
}

/// Whether two folders have the same results, the curve of convergence but for its seconds included.
#[track_caller]
fn same_results(place: &Place, whole: &str, part: &str) {
    for file in ["warp.nii.gz", "inverse_warp.nii.gz", "momentum.nii.gz", "weights_t1.nii.gz"] {
        let same =
            place.bytes(&format!("{whole}/{file}")) == place.bytes(&format!("{part}/{file}"));
        assert!(same, "{file}");
    }
    assert!(!place.has(&format!("{part}/checkpoint.bin")));
    let history = |out: &str| {
        let mut history = place.json(&format!("{out}/report.json"))["history"].clone();
        for entry in history.as_array_mut().unwrap() {
            entry["seconds"] = Value::Null;
        }
        history
    };
    assert_eq!(history(part), history(whole));
    let converged = |out: &str| place.json(&format!("{out}/report.json"))["converged"].clone();
    assert_eq!(converged(part), converged(whole));
}

#[test]
fn an_interrupted_registration_goes_on_to_the_same_bits() {
    let place = with_long();
    let register = format!("register {PAIR} {LABELS} {LONG}");
    let whole = place.run(&format!("{register} --out whole"));
    assert!(matches!(whole.code, Some(0 | 3)), "{}", whole.err);
    let begin = format!("{register} --out part --checkpoint-every 0");
    let mut command = place.command();
    command.args(begin.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    // The first checkpoint says that iterations go on.
    let patience = Instant::now() + Duration::from_secs(50);
    while !place.has("part/checkpoint.bin") && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = Ran::of(&child.wait_with_output().unwrap()).ends(130);
    assert!(ran.err.contains("--resume goes on"), "{}", ran.err);
    assert_eq!(place.json("part/report.json")["stopped"], "interrupted");
    assert!(place.text("part/report.html").contains("interrupted"));
    let iterations =
        |out: &str| place.json(&format!("{out}/report.json"))["history"].as_array().unwrap().len();
    let before = iterations("part");
    let seconds = figure(&place.json("part/report.json")["history"][before - 1], "seconds");
    assert!(before > 0 && before < iterations("whole"), "{before}: it was stopped on its way");

    // Refused with other options or images, and left there.
    let other = format!("{begin} --weight 3 --resume");
    let ran = place.run(&other).ends(2);
    assert!(ran.err.contains("checkpoint.bin") && ran.err.contains("--resume"), "{}", ran.err);
    let affine = format!("register {PAIR} --preset affine --resume --out part");
    place.run(&affine).ends(2);
    let swapped = "--fixed moving.nii.gz --moving fixed.nii.gz";
    place.run(&format!("register {swapped} {LABELS} {LONG} --resume --out part")).ends(2);
    assert!(place.has("part/checkpoint.bin"));

    let rest = place.run(&format!("{begin} --resume"));
    assert_eq!(rest.code, whole.code, "{}", rest.err);
    assert!(rest.err.contains("goes on after"), "{}", rest.err);
    same_results(&place, "whole", "part");
    assert!(figure(&place.json("part/report.json"), "seconds") > seconds, "those before count");

    // Nothing to go on from: it just runs.
    let again = place.run(&format!("{begin} --resume"));
    assert_eq!(again.code, whole.code, "{}", again.err);
    same_results(&place, "whole", "part");
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let place = Place::with_pair();
    let register = format!("register {PAIR} --affine none --out out");
    place.run(&format!("{register} --time-limit 0")).ends(124);
    let bytes = place.bytes("out/checkpoint.bin");
    for damaged in [&b""[..], b"something else", &bytes[..bytes.len() / 2], &bytes[..20]] {
        place.put("out/checkpoint.bin", damaged);
        let ran = place.run(&format!("{register} --resume")).ends(2);
        assert!(ran.err.contains("checkpoint.bin") && ran.err.contains("delete"), "{}", ran.err);
    }
}

#[test]
fn too_few_iterations_are_told_from_convergence() {
    let place = Place::with_pair();
    let ran = place.run(&format!("register {PAIR} {LABELS} --levels 1:2 --out out")).ends(3);
    assert!(ran.err.contains("--levels"), "{}", ran.err);
    assert!(place.has("out/warp.nii.gz") && place.has("out/report.html"));
    assert_eq!(place.json("out/report.json")["converged"], false);
    assert!(!place.has("out/checkpoint.bin"));
}

#[test]
fn folds_beyond_what_was_asked_for_have_their_code() {
    let place = Place::with_pair();
    // A reflection folds everywhere.
    let mirror = "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\n\
                  Parameters: -1 0 0 1 31 0\nFixedParameters: 0 0\n";
    place.put("mirror.txt", mirror);
    let register = format!("register {PAIR} -t mirror.txt --affine none --levels 1:40");
    let ran = place.run(&format!("{register} --out out")).ends(3);
    let report = place.json("out/report.json");
    let folds = report["folds"].as_u64().unwrap();
    assert_eq!((folds, report["folded_cells"].as_u64()), (32 * 32, Some(31 * 31)));
    let said = format!("folds in {folds} voxels or cells, expected at most 0");
    assert!(ran.err.contains(&said), "{}", ran.err);
    assert!(place.text("out/report.html").contains(&format!("folds at {folds} voxels")));
    let ran = place.run(&format!("{register} --max-folds {folds} --out out"));
    assert!(!ran.err.contains("folds in"), "{}", ran.err);
}

/// Three pairs, of which one has a file that is missing. Paths are relative to the list.
const PAIRS: &str = "name,fixed,moving,fixed_labels,moving_labels\n\
                     first,../fixed.nii.gz,../moving.nii.gz,../fixed_labels.nii.gz,../moving_labels.nii.gz\n\
                     second,../fixed.nii.gz,missing.nii.gz,,\n\
                     third,../moving.nii.gz,../fixed.nii.gz,,\n";

fn rows(place: &Place, name: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(place.path(name)).unwrap();
    let cells =
        |row: csv::Result<csv::StringRecord>| row.unwrap().iter().map(str::to_owned).collect();
    std::iter::once(reader.headers().unwrap().iter().map(str::to_owned).collect())
        .chain(reader.into_records().map(cells))
        .collect()
}

#[test]
fn a_batch_does_what_can_be_done() {
    let place = Place::with_pair();
    std::fs::create_dir(place.path("list")).unwrap();
    place.put("list/pairs.csv", PAIRS);
    for jobs in [1, 2] {
        let ran = place
            .run(&format!("batch --pairs list/pairs.csv --jobs {jobs} --out out{jobs}"))
            .ends(2);
        assert!(
            ran.err.contains("second: error:") && ran.err.contains("missing.nii.gz"),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("1 of 3 pairs failed"), "{}", ran.err);
        let rows = rows(&place, &format!("out{jobs}/batch.csv"));
        let column = |name: &str| rows[0].iter().position(|found| found == name).unwrap();
        let cells =
            |name: &str| rows[1..].iter().map(|row| row[column(name)].as_str()).collect::<Vec<_>>();
        assert_eq!(cells("name"), ["first", "second", "third"]);
        assert_eq!(cells("exit_code"), ["0", "2", "0"]);
        assert!(cells("message")[1].contains("missing.nii.gz"));
        let report = place.json(&format!("out{jobs}/first/report.json"));
        let dice: f64 = cells("dice_mean_after")[0].parse().unwrap();
        assert!((dice - figure(&report, "dice_mean_after")).abs() < 1e-12);
        assert_eq!((cells("dice_mean_after")[1], cells("dice_mean_after")[2]), ("", ""));
    }
    for file in ["first/warp.nii.gz", "third/warp.nii.gz", "first/warped_labels.nii.gz"] {
        assert!(
            place.bytes(&format!("out1/{file}")) == place.bytes(&format!("out2/{file}")),
            "{file}"
        );
    }
    place.run(&format!("register {PAIR} {LABELS} --out alone")).ends(0);
    assert!(place.bytes("alone/warp.nii.gz") == place.bytes("out1/first/warp.nii.gz"));

    // What is done is left as it is, what failed is done again.
    let modified = |name: &str| std::fs::metadata(place.path(name)).unwrap().modified().unwrap();
    let before = modified("out1/first/warp.nii.gz");
    std::fs::copy(place.path("moving.nii.gz"), place.path("list/missing.nii.gz")).unwrap();
    let ran = place.run("batch --pairs list/pairs.csv --resume --out out1").ends(0);
    assert!(ran.err.contains("first: done before"), "{}", ran.err);
    assert_eq!(modified("out1/first/warp.nii.gz"), before);
    assert!(place.has("out1/second/warp.nii.gz"));
    assert_eq!(rows(&place, "out1/batch.csv")[2][1], "0");
}

#[test]
fn a_batch_tells_unfinished_pairs_also_when_it_goes_on() {
    let place = Place::with_pair();
    let list = "fixed,moving,initial\nfixed.nii.gz,moving.nii.gz,\"[shift.txt,1]\"\n";
    place.put("pairs.csv", list);
    let shift = "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\n\
                 Parameters: 1 0 0 1 2 0\nFixedParameters: 0 0\n";
    place.put("shift.txt", shift);
    let batch = "batch --pairs pairs.csv --levels 1:2 --affine none --out out";
    place.run(batch).ends(3);
    let first = place.json("out/pair001/report.json");
    let x = first["affine"]["shift"][0].as_f64().unwrap();
    assert!((x + 2.0).abs() < 1e-12, "the inverse of the shift: {x}");
    let ran = place.run(&format!("{batch} --resume")).ends(3);
    assert!(ran.err.contains("done before"), "{}", ran.err);
    place.run("batch --pairs pairs.csv --affine none --time-limit 0 --out late").ends(124);
    assert_eq!(place.json("late/pair001/report.json")["stopped"], "time-limit");
    place.run("batch --pairs pairs.csv --affine none --resume --out late").ends(0);
    place.run("batch --pairs pairs.csv --affine none --out whole").ends(0);
    same_results(&place, "whole/pair001", "late/pair001");
}

#[test]
fn lists_of_pairs_that_cannot_be_used() {
    let place = Place::with_pair();
    let row = "fixed.nii.gz,moving.nii.gz";
    for (list, said) in [
        (format!("name,fixed,moving\na/b,{row}\n"), "a/b"),
        (format!("name,fixed,moving\n..,{row}\n"), ".."),
        (format!("name,fixed,moving\na,{row}\na,{row}\n"), "each once"),
        (format!("name,fixd,moving\na,{row}\n"), "fixd"),
        ("fixed,moving\n".to_owned(), "at least one pair"),
        (format!("fixed,moving\n{row},more\n"), "pairs.csv"),
    ] {
        place.put("pairs.csv", list);
        let ran = place.run("batch --pairs pairs.csv --out out").ends(2);
        assert!(ran.err.contains("pairs.csv") && ran.err.contains(said), "{}", ran.err);
        assert!(!place.has("out"), "{said}");
    }
    place.put("pairs.csv", format!("fixed,moving\n{row}\n"));
    let ran = place.run("batch --pairs pairs.csv --min-jacobian 2 --out out").ends(2);
    assert!(ran.err.contains("min_jacobian") && !place.has("out"), "{}", ran.err);
}

#[test]
fn the_demo_needs_nothing() {
    let place = Place::empty();
    let output = place.command().arg("demo").env_clear().output().unwrap();
    let ran = Ran::of(&output).ends(0);
    assert!(ran.out.contains("rdmm-demo/result/report.html"), "{}", ran.out);
    let report = place.json("rdmm-demo/result/report.json");
    assert!(figure(&report, "dice_mean_after") > 0.95 && report["folds"] == 0, "{report}");
    assert!(place.has("rdmm-demo/result/report.html"));
    assert_eq!(place.files("."), ["rdmm-demo"]);
}

#[test]
fn configurations_are_printed_as_they_are_read() {
    let place = Place::with_result();
    let printed = place.run("config --preset rdmm --levels 2:5,1:7 --weight 3").ends(0).out;
    place.put("a.toml", &printed);
    assert_eq!(place.run("config --config a.toml").ends(0).out, printed);
    assert!(
        printed.contains("preset = \"rdmm\"") && printed.contains("iterations = 7"),
        "{printed}"
    );
    place.put("b.toml", place.run("config").ends(0).out);
    place.run(&format!("register {PAIR} {LABELS} --config b.toml --out same")).ends(0);
    assert!(place.bytes("same/warp.nii.gz") == place.bytes("out/warp.nii.gz"));
    // Options override the file.
    let other = place.run("config --config a.toml --preset vsvf").ends(0).out;
    assert!(other.contains("preset = \"vsvf\"") && other.contains("iterations = 7"));
}

#[test]
fn completions_and_manuals() {
    let place = Place::empty();
    let script = place.run("completions bash").ends(0).out;
    assert!(script.contains("complete -F _rdmm") && script.contains("--fixed-labels"));
    place.put("script.bash", &script);
    place.bash("bash -n script.bash").ends(0);
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(place.run(&format!("completions {shell}")).ends(0).out.contains("rdmm"), "{shell}");
    }
    place.run("man --out pages/here").ends(0);
    let pages = place.files("pages/here");
    for command in ["rdmm.1", "rdmm-register.1", "rdmm-apply.1", "rdmm-batch.1"] {
        assert!(pages.iter().any(|page| page == command), "{command} in {pages:?}");
    }
    assert!(place.text("pages/here/rdmm-register.1").contains("\\-\\-fixed"));
}

#[test]
fn a_report_is_written_again_from_its_folder() {
    let place = Place::with_result();
    place.run(&format!("register {PAIR} {LABELS} --preset rdmm-regions --out regions")).ends(0);
    place
        .run("register --fixed fixed.nii.gz --moving moving.nii.gz --preset affine --out affine")
        .ends(0);
    for folder in ["out", "affine", "regions"] {
        let page = place.text(&format!("{folder}/report.html"));
        std::fs::remove_file(place.path(&format!("{folder}/report.html"))).unwrap();
        place.run(&format!("report {folder}")).ends(0);
        let again = place.text(&format!("{folder}/report.html"));
        assert!(again == page, "{folder}");
    }
    // Files are named as they were: from elsewhere they are not found.
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let ran = place.bash("cd elsewhere && rdmm report ../out").ends(2);
    for said in ["../out/report.json", "fixed.nii.gz", "folder where the registration was started"]
    {
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    place.put("out/report.json", "{\"dimension\": 4}");
    let ran = place.run("report out").ends(2);
    assert!(ran.err.contains("dimension: expected 2 or 3, found 4"), "{}", ran.err);
    let ran = place.run("report elsewhere").ends(2);
    assert!(ran.err.contains("elsewhere/report.json"), "{}", ran.err);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_unicode() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::with_pair();
    let name = std::ffi::OsStr::from_bytes(b"fixed\xff.nii.gz");
    std::fs::copy(place.path("fixed.nii.gz"), place.folder.path().join(name)).unwrap();
    let mut command = place.command();
    command.arg("register").arg("--fixed").arg(name);
    let output = command.args(["--moving", "moving.nii.gz", "--out", "out"]).output().unwrap();
    Ran::of(&output).ends(0);
    assert_eq!(place.json("out/report.json")["fixed"], "fixed\u{fffd}.nii.gz");
    assert!(place.has("out/report.html"));
}

#[test]
fn results_are_not_written_over_their_inputs() {
    let place = Place::with_result();
    let before = place.bytes("out/warp.nii.gz");
    for inputs in [
        "--initial out/warp.nii.gz --out out",
        "--fixed-labels out/warped_labels.nii.gz --out ./out",
    ] {
        let ran = place.run(&format!("register {PAIR} {inputs}")).ends(2);
        assert!(ran.err.contains("out/warp") && ran.err.contains("--out"), "{}", ran.err);
        assert!(place.bytes("out/warp.nii.gz") == before);
    }
}
