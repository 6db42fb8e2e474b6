//! What a browser makes of a page. Needs Chromium: `RDMM_CHROMIUM` or /usr/bin/chromium.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::html;
use super::demo;

/// Looks at a page after it has loaded and writes what is wrong into the root element. It stands before the
/// page's policy, which would forbid it.
const CHECK: &str = r"<script>
const problems = [];
addEventListener('error', e => problems.push('error: ' + (e.message || e.target.nodeName)), true);
addEventListener('securitypolicyviolation', e => problems.push('policy: ' + e.violatedDirective));
const verify = (good, text) => { if (!good) problems.push(text); };
// Pictures that begin to load before the page has loaded are waited for.
const probes = [];
addEventListener('DOMContentLoaded', () => {
  for (const image of document.querySelectorAll('svg image')) {
    const probe = new Image();
    probe.alt = image.id;
    probe.src = image.getAttribute('href');
    probes.push(probe);
  }
});
addEventListener('load', () => {
  const images = [...document.images];
  for (const image of images) {
    verify(image.naturalWidth > 0, 'not decoded: ' + image.alt);
    verify(image.alt !== '', 'no alternative text');
    const box = image.getBoundingClientRect();
    verify(box.width > 1 && box.height > 1, 'no size: ' + image.alt);
  }
  for (const probe of probes) verify(probe.naturalWidth > 0, 'not decoded: ' + probe.alt);
  for (const use of document.querySelectorAll('use'))
    verify(document.querySelector(use.getAttribute('href')), 'nothing to use');
  for (const path of document.querySelectorAll('path'))
    verify(path.getTotalLength() > 0 || path.getAttribute('d') === '', 'empty path');
  for (const frame of document.querySelectorAll('.frame')) {
    const style = getComputedStyle(frame.parentElement), box = frame.getBoundingClientRect();
    const wanted = style.getPropertyValue('--width') / style.getPropertyValue('--height');
    verify(Math.abs(box.width / box.height / wanted - 1) < 0.02, 'aspect of a frame');
  }
  verify(document.documentElement.scrollWidth <= innerWidth, 'wider than the window');
  const visible = name => getComputedStyle(document.querySelector('#images .' + name)).visibility;
  for (const name of ['moving', 'fixed', 'warped']) {
    document.getElementById('show-' + name).click();
    for (const other of ['moving', 'fixed', 'warped'])
      verify((visible(other) === 'visible') === (other === name), name + ' shows ' + other);
  }
  document.getElementById('show-flicker').click();
  const layer = getComputedStyle(document.querySelector('#images .warped'));
  verify(layer.animationName === 'flicker', 'no flicker');
  const planes = document.querySelectorAll('#grid .plane');
  for (let k = 0; planes.length > 1 && k < planes.length; k++) {
    document.getElementById('plane-' + k).click();
    planes.forEach((plane, i) => verify((plane.offsetWidth > 0) === (i === k), 'plane ' + k));
  }
  document.documentElement.dataset.images = images.length;
  document.documentElement.dataset.ready = problems.join('; ') || 'yes';
});
</script>";

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("RDMM_CHROMIUM").map(PathBuf::from);
    let found = named.unwrap_or_else(|| PathBuf::from("/usr/bin/chromium"));
    if found.exists() {
        Some(found)
    } else {
        println!("skipped: there is no {}; set RDMM_CHROMIUM", found.display());
        None
    }
}

/// The root element's tag after the check of a page has run in a window of some width.
fn checked(page: &str, width: usize) -> Option<String> {
    let chromium = chromium()?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, page.replacen("<head>", &format!("<head>{CHECK}"), 1)).unwrap();
    let output = folder.path().join("dom.html");
    let mut child = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--window-size={width},900"))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_mins(2) {
            child.kill().unwrap();
            panic!("the browser did not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let dom = std::fs::read_to_string(output).unwrap();
    let root = &dom[dom.find("<html").expect("the browser gave no page")..];
    Some(root[..=root.find('>').unwrap()].to_owned())
}

#[test]
fn a_browser_shows_a_plane() {
    if let Some(root) = checked(&html(&demo::plane_only()).unwrap(), 1280) {
        assert!(root.contains("data-ready=\"yes\""), "{root}");
    }
}

#[test]
fn a_browser_shows_three_planes_in_a_narrow_window() {
    if let Some(root) = checked(&html(&demo::planes()).unwrap(), 500) {
        assert!(root.contains("data-ready=\"yes\""), "{root}");
    }
}

#[test]
fn the_check_finds_a_broken_picture_and_a_forbidden_script() {
    let page = html(&demo::plane_only()).unwrap();
    let broken = page.replacen("data:image/png;base64,iVBOR", "data:image/png;base64,AAAAA", 1);
    if let Some(root) = checked(&broken, 1280) {
        assert!(root.contains("not decoded: Fixed image"), "{root}");
    }
    let scripted = page.replacen("<h1>", "<script>document.title = ''</script><h1>", 1);
    if let Some(root) = checked(&scripted, 1280) {
        assert!(root.contains("policy: script-src"), "{root}");
    }
}

/// For looking at the pages: `RDMM_REPORT_DEMO=folder cargo test -p rdmm-cli pages_to_look_at`.
#[test]
fn pages_to_look_at() {
    let Some(folder) = std::env::var_os("RDMM_REPORT_DEMO").map(PathBuf::from) else {
        println!("skipped: RDMM_REPORT_DEMO is not set");
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    for (name, page) in [("2d", demo::plane_only()), ("3d", demo::planes())] {
        std::fs::write(folder.join(format!("{name}.html")), html(&page).unwrap()).unwrap();
    }
}
