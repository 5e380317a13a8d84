#pragma once

/// \file
/// The program without its command line.

#include "options.hpp"
#include "support/interrupt.hpp"

namespace train_editor {

/// Trains as one of the processes that torchrun or Slurm started, or alone. \return the program's status
int train(Options o, const example::Interrupt& interrupt);

}  // namespace train_editor
