# Mixed logistic regressions of the simulated sets by lme4 and glmmTMB.
# Rscript glmm.R trials.csv glmer|glmmTMB > answer.json; columns of trials.csv: y, m, g, dH.
arguments <- commandArgs(trailingOnly = TRUE)
frame <- read.csv(arguments[1], colClasses = c(m = "factor", g = "factor"))
contender <- arguments[2]
package <- c(glmer = "lme4", glmmTMB = "glmmTMB")[[contender]]
suppressPackageStartupMessages(library(package, character.only = TRUE))

formula <- y ~ 0 + m + m:dH + (1 | g) + (1 | g:m)
elapsed <- system.time({
  fit <- if (contender == "glmer") {
    # nAGQ = 1 is Laplace's approximation; the tolerance is tighter than the default's.
    glmer(formula, data = frame, family = binomial, nAGQ = 1, control = glmerControl(
      optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-7), tolPwrss = 1e-9
    ))
  } else {
    glmmTMB(formula, data = frame, family = binomial)
  }
})
coefficients <- if (contender == "glmer") fixef(fit) else fixef(fit)$cond
covariance <- as.matrix(if (contender == "glmer") vcov(fit) else vcov(fit)$cond)
spread <- if (contender == "glmer") VarCorr(fit) else VarCorr(fit)$cond
n <- nlevels(frame$m)
intercept <- coefficients[seq_len(n)]
by_dH <- coefficients[n + seq_len(n)]
stopifnot(identical(names(by_dH), paste0("m", levels(frame$m), ":dH")))
# Delta method for the ratio.
error <- sapply(seq_len(n), function(i) {
  own <- c(i, n + i)
  gradient <- c(-1 / by_dH[i], intercept[i] / by_dH[i]^2)
  sqrt(drop(gradient %*% covariance[own, own] %*% gradient))
})
write_numbers <- function(x) paste0("[", paste(sprintf("%.10g", x), collapse = ", "), "]")
cat(sprintf(
  paste0(
    "{\n  \"R\": \"%s\",\n  \"package\": \"%s %s\",\n  \"n_trials\": %d,\n  \"log_likelihood\": %.8f,\n",
    "  \"intercept\": %s,\n  \"slope\": %s,\n  \"balance_point\": %s,\n  \"standard_error\": %s,\n",
    "  \"group_sd\": %.10g,\n  \"group_model_sd\": %.10g\n}\n"
  ),
  paste(R.version$major, R.version$minor, sep = "."), package, packageVersion(package), nrow(frame),
  as.numeric(logLik(fit)), write_numbers(intercept), write_numbers(-by_dH), write_numbers(-intercept / by_dH),
  write_numbers(error), attr(spread[["g"]], "stddev")[[1]], attr(spread[["g:m"]], "stddev")[[1]]
))
cat(sprintf("%s: %.1f s\n", contender, elapsed[["elapsed"]]), file = stderr())
