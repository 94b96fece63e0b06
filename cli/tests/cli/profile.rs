//! `fullconv profile`.

use super::program::*;

#[test]
fn profile_times_every_layer_of_a_batch() {
    if !has_adapter() {
        return;
    }
    let model = golden("fcn8s-same");
    for limits in ["", " --default-limits"] {
        let line = format!("profile -m {{}} --size 40x56 --batch 2 --runs 3 --json{limits}");
        let json = fullconv_with(&line, &[&model]).expect(0).json();
        assert_eq!(json["run_ms"].as_array().unwrap().len(), 3);
        let figures = ["load_ms", "first_ms", "median_ms"].map(|f| json[f].as_f64().unwrap());
        assert!(figures.iter().all(|ms| *ms > 0.0), "{json}");
        assert!(json["peak_device_bytes"].as_u64().unwrap() > 0);
        let steps = json["steps"].as_array().unwrap();
        assert_eq!(steps[0]["kernel"], "preprocess");
        assert_eq!(
            steps.last().unwrap()["shape"],
            serde_json::json!([2, 1, 40, 56])
        );
        let sum = |key: &str| steps.iter().map(|s| s[key].as_f64().unwrap()).sum::<f64>();
        assert!((sum("share") - 1.0).abs() < 1e-6, "{json}");
        assert!(sum("ms") > 0.0);
        assert_eq!(sum("flops"), json["flops"].as_f64().unwrap());
    }
}
