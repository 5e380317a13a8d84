// All samplers over a denoiser of any type.
#include "ip2p/pipeline/open_model.hpp"

namespace ip2p {
template class AnySamplerOf<EulerAncestral, Euler, Heun, Dpm2, Dpm2Ancestral, Lms, DpmPlusPlus2M,
                            DpmPlusPlus2SAncestral, DpmPlusPlus2MSde, DpmPlusPlus3MSde, UniPc, Ddim, Ddpm, Lcm>;
}  // namespace ip2p
