#!/bin/bash
# Sends the whole chain by hand. `ltgc-local slurm submit` does the same for the steps that are not complete,
# and records the jobs' numbers, which `ltgc-local status`, `slurm cancel` and `slurm logs` need.
set -euo pipefail
cd -- "$(dirname -- "$0")"
mkdir -p logs
send() { sbatch --parsable "$@" | cut -d ';' -f 1; }
job_prepare=$(send 00-prepare.sbatch)
job_describe=$(send "--dependency=afterany:$job_prepare" 01-describe.sbatch)
job_extend=$(send "--dependency=afterany:$job_describe" 02-extend.sbatch)
job_draw=$(send "--dependency=afterany:$job_extend" 03-draw.sbatch)
job_assess_template=$(send "--dependency=afterany:$job_prepare" 04-assess-template.sbatch)
job_assess_0_detect=$(send "--dependency=afterany:$job_draw:$job_assess_template" 05-assess-0-detect.sbatch)
job_assess_0_refine=$(send "--dependency=afterany:$job_assess_0_detect" 06-assess-0-refine.sbatch)
job_assess_0_redraw=$(send "--dependency=afterany:$job_assess_0_refine" 07-assess-0-redraw.sbatch)
job_assess_1_detect=$(send "--dependency=afterany:$job_assess_0_redraw" 08-assess-1-detect.sbatch)
job_assess_1_refine=$(send "--dependency=afterany:$job_assess_1_detect" 09-assess-1-refine.sbatch)
job_assess_1_redraw=$(send "--dependency=afterany:$job_assess_1_refine" 10-assess-1-redraw.sbatch)
job_assess_2_detect=$(send "--dependency=afterany:$job_assess_1_redraw" 11-assess-2-detect.sbatch)
job_generated=$(send "--dependency=afterany:$job_assess_2_detect" 12-generated.sbatch)
job_leaks_originals=$(send "--dependency=afterany:$job_prepare" 13-leaks-originals.sbatch)
job_leaks_generated=$(send "--dependency=afterany:$job_generated" 14-leaks-generated.sbatch)
job_leaks_compare=$(send "--dependency=afterany:$job_leaks_originals:$job_leaks_generated" 15-leaks-compare.sbatch)
job_train_control=$(send "--dependency=afterany:$job_prepare" 16-train-control.sbatch)
job_train_ltgc=$(send "--dependency=afterany:$job_generated" 17-train-ltgc.sbatch)
job_validate_zero_shot=$(send "--dependency=afterany:$job_prepare" 18-validate-zero_shot.sbatch)
job_validate_control=$(send "--dependency=afterany:$job_train_control" 19-validate-control.sbatch)
job_validate_ltgc=$(send "--dependency=afterany:$job_train_ltgc" 20-validate-ltgc.sbatch)
job_predict_zero_shot=$(send "--dependency=afterany:$job_prepare" 21-predict-zero_shot.sbatch)
job_predict_control=$(send "--dependency=afterany:$job_train_control" 22-predict-control.sbatch)
job_predict_ltgc=$(send "--dependency=afterany:$job_train_ltgc" 23-predict-ltgc.sbatch)
job_evaluate=$(send "--dependency=afterany:$job_predict_zero_shot:$job_predict_control:$job_predict_ltgc:$job_validate_zero_shot:$job_validate_control:$job_validate_ltgc" 24-evaluate.sbatch)
job_report=$(send "--dependency=afterany:$job_leaks_compare:$job_evaluate" 25-report.sbatch)
echo "imagenet_lt: sent; the last job, report, is $job_report"
