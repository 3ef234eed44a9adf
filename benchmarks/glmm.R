# Mixed logistic regression by lme4 or glmmTMB: estimates and times, one "name value" a line.
# Rscript benchmarks/glmm.R trials.csv glmer|glmmTMB
arguments <- commandArgs(trailingOnly = TRUE)
frame <- read.csv(arguments[1], stringsAsFactors = TRUE)
contender <- arguments[2]
package <- c(glmer = "lme4", glmmTMB = "glmmTMB")[[contender]]
suppressPackageStartupMessages(suppressWarnings(library(package, character.only = TRUE)))

formula <- is_text ~ 0 + model + model:dH + (1 | group) + (1 | group:model)
elapsed <- system.time({
  fit <- if (contender == "glmer") {
    # Several times faster here than the default optimiser, which at 60,000 trials stopped short of the maximum.
    glmer(formula, data = frame, family = binomial, control = glmerControl(optimizer = "nloptwrap"))
  } else {
    glmmTMB(formula, data = frame, family = binomial)
  }
  coefficients <- if (contender == "glmer") fixef(fit) else fixef(fit)$cond
  covariance <- as.matrix(if (contender == "glmer") vcov(fit) else vcov(fit)$cond)
  n <- nlevels(frame$model)
  intercept <- coefficients[seq_len(n)]
  slope <- coefficients[n + seq_len(n)]
  balance_point <- -intercept / slope
  # Delta method for the ratio.
  error <- sapply(seq_len(n), function(m) {
    own <- c(m, n + m)
    gradient <- c(-1 / slope[m], intercept[m] / slope[m]^2)
    sqrt(drop(gradient %*% covariance[own, own] %*% gradient))
  })
})
spread <- if (contender == "glmer") VarCorr(fit) else VarCorr(fit)$cond
report <- function(name, value) cat(name, format(value, digits = 10), "\n")
report("wall_s", elapsed[["elapsed"]])
report("cpu_s", elapsed[["user.self"]] + elapsed[["sys.self"]])
for (m in seq_len(n)) {
  report("balance_point", balance_point[[m]])
  report("standard_error", error[[m]])
}
report("group_sd", attr(spread[["group"]], "stddev")[[1]])
report("group_model_sd", attr(spread[["group:model"]], "stddev")[[1]])
# Both maximise the same Laplace approximation: the lower of two values did not reach the maximum.
report("log_likelihood", logLik(fit)[[1]])
cat("version", as.character(packageVersion(package)), "\n")
cat("R", paste(R.version$major, R.version$minor, sep = "."), "\n")
