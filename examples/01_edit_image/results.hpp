#pragma once

/// \file
/// Makes the results that were asked for and writes them.

#include <vector>

#include "editing.hpp"
#include "jobs.hpp"
#include "options.hpp"
#include "support/interrupt.hpp"
#include "support/standard_output.hpp"

namespace edit_image {

/// Makes one result. Everything that it writes is written, or nothing. \param photograph that `job` names
/// \param standard_output where it goes if the job names no file  \throws Error, Cancelled
void make_one(Editing& editing, const Options& o, const Job& job, const Photograph& photograph,
              example::StandardOutput* standard_output);

/// Makes one sheet. \throws Error, Cancelled
void make_sheet(Editing& editing, const Options& o, const Job& job, const Photograph& photograph,
                example::StandardOutput* standard_output);

/// Makes results in batches of one size. Those that are there with equal settings are skipped; a photograph that cannot
/// be edited is named, and the rest go on. \return the program's exit status
int make_all(Editing& editing, const Options& o, const std::vector<Job>& jobs, const example::Interrupt& interrupt);

}  // namespace edit_image
